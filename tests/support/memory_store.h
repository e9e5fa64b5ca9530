// A store in memory: what the loader reads when no disk is wanted, and one that can fail on request.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "dataset/shard_reader.h"

namespace plateau::testing {

class MemoryStore final : public StoreReader {
 public:
  explicit MemoryStore(int classes = 10) {
    manifest_.name = "memory";
    manifest_.classes.resize(static_cast<size_t>(classes));
    manifest_.splits = {SplitInfo{.name = "train"}, SplitInfo{.name = "val"}};
  }
  // The next source of the split; returns its ordinal. An empty `bytes` is a rejected source.
  uint64_t Add(const std::string& split_name, const std::string& bytes, int label, Encoding encoding = Encoding::kJpeg,
               uint32_t width = 0, uint32_t height = 0, uint8_t channels = 3) {
    SplitInfo& split = split_name == "train" ? manifest_.splits[0] : manifest_.splits[1];
    const uint64_t ordinal = split.sources++;
    if (bytes.empty()) {
      split.rejected.push_back(ordinal);
      return ordinal;
    }
    ++split.records;
    RecordHeader header{encoding, channels, label, width, height, ordinal, split_name + "_" + std::to_string(ordinal) + ".JPEG"};
    records_[{split_name, ordinal}] = {header, bytes};
    return ordinal;
  }
  // Replaces a record's bytes: damage.
  void Overwrite(const std::string& split, uint64_t ordinal, std::string bytes) {
    records_.at({split, ordinal}).bytes = std::move(bytes);
  }
  void FailReadsOf(const std::string& split, uint64_t ordinal, Error error) { failures_[{split, ordinal}] = std::move(error); }
  Manifest& mutable_manifest() { return manifest_; }

  const Manifest& manifest() const override { return manifest_; }
  Status Read(const SplitInfo& split, uint64_t source_ordinal, RecordBuffer& out) const override {
    const std::pair key{split.name, source_ordinal};
    if (const auto failure = failures_.find(key); failure != failures_.end()) return Fail(failure->second);
    const auto found = records_.find(key);
    if (found == records_.end()) return Fail(ErrorCode::kNotFound, "no record {} in split {}", source_ordinal, split.name);
    out.value = found->second.bytes;
    out.record = {found->second.header, out.value};
    return {};
  }

 private:
  struct Stored {
    RecordHeader header;
    std::string bytes;
  };
  Manifest manifest_;
  std::map<std::pair<std::string, uint64_t>, Stored> records_;
  std::map<std::pair<std::string, uint64_t>, Error> failures_;
};

}  // namespace plateau::testing
