// Temporary folders, tars and image sources for the tests of the record store.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>

#include "common/file.h"
#include "dataset/readers/source.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_images.h"

namespace plateau::testing {

using test::TempFolder;

inline std::string ReadText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void WriteText(const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

inline void FlipByte(const std::string& path, size_t offset) {
  std::string bytes = ReadText(path);
  ASSERT_LT(offset, bytes.size()) << path;
  bytes[offset] = static_cast<char>(bytes[offset] ^ 0x10);
  WriteText(path, bytes);
}

using TarFiles = std::vector<std::pair<std::string, std::string>>;  // (name, bytes)

// `format`: "ustar", "gnutar", "pax".
inline std::string MakeTar(const TarFiles& entries, const std::string& format = "ustar") {
  std::string out;
  archive* tar = archive_write_new();
  archive_write_set_format_by_name(tar, format.c_str());
  archive_write_open(
      tar, &out, nullptr,
      [](archive*, void* self, const void* data, size_t bytes) {
        static_cast<std::string*>(self)->append(static_cast<const char*>(data), bytes);
        return static_cast<la_ssize_t>(bytes);
      },
      nullptr);
  for (const auto& [name, bytes] : entries) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, name.c_str());
    archive_entry_set_size(entry, static_cast<la_int64_t>(bytes.size()));
    archive_entry_set_filetype(entry, name.back() == '/' ? AE_IFDIR : AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    EXPECT_EQ(archive_write_header(tar, entry), ARCHIVE_OK) << archive_error_string(tar);
    archive_write_data(tar, bytes.data(), bytes.size());
    archive_entry_free(entry);
  }
  archive_write_close(tar);
  archive_write_free(tar);
  return out;
}

// Images held in memory.
class MemorySource final : public ImageSource {
 public:
  explicit MemorySource(std::string split) : split_(std::move(split)), place_("memory " + split_) {}
  void Add(const std::string& name, int32_t label, std::string bytes) {
    images_.push_back({name, contents_.size(), bytes.size(), label});
    contents_.push_back(std::move(bytes));
  }
  const std::string& content(uint64_t ordinal) const { return contents_.at(ordinal); }
  // From this ordinal on Read fails like a disk that went away; -1: never.
  void FailFrom(int64_t ordinal) { fail_from_ = ordinal; }

  const std::string& split() const override { return split_; }
  const std::string& place() const override { return place_; }
  const std::vector<SourceImage>& images() const override { return images_; }
  Status Read(uint64_t ordinal, std::string& bytes) const override {
    if (fail_from_ >= 0 && ordinal >= static_cast<uint64_t>(fail_from_))
      return Fail(ErrorCode::kIo, "{}: the disk went away", place_);
    bytes = contents_.at(ordinal);
    return {};
  }

 private:
  std::string split_, place_;
  std::vector<SourceImage> images_;
  std::vector<std::string> contents_;
  int64_t fail_from_ = -1;
};

// `train` and `val` small JPEGs of different sizes in three classes; the splits are MemorySources.
inline DataSource MakeMemorySource(int train, int val) {
  DataSource source;
  source.classes = {{"n01", "first"}, {"n02", "second, two"}, {"n03", "third"}};
  source.description = "memory";
  uint32_t variant = 0;
  for (const auto& [name, images] : {std::pair<std::string, int>{"train", train}, {"val", val}}) {
    auto split = std::make_unique<MemorySource>(name);
    for (int i = 0; i < images; ++i, ++variant)
      split->Add(name + "_" + std::to_string(i) + ".JPEG", i % 3,
                 MakeJpeg(MakePicture(24 + static_cast<int>(variant % 5), 20 + static_cast<int>(variant % 3), variant)));
    source.splits.push_back(std::move(split));
  }
  return source;
}

inline MemorySource& Memory(const DataSource& source, size_t split) { return static_cast<MemorySource&>(*source.splits.at(split)); }

}  // namespace plateau::testing
