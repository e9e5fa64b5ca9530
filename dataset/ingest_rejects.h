// Bad images of an ingest: how many are allowed, which were found, and what is said about them.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "dataset/readers/source.h"

namespace plateau {

// How many images of each split may be bad: a share of its sources (rounded down) or a number.
struct RejectLimit {
  double share = 0.01;
  std::optional<uint64_t> count;
  uint64_t Of(uint64_t sources) const;
  std::string Text() const;  // "1%", "25"
};
// "1%", "0.5%", "25". kInvalidInput otherwise.
Result<RejectLimit> ParseRejectLimit(std::string_view text);

struct RejectedImage {
  uint64_t source_ordinal = 0;
  std::string reason;
};

// Counts bad images of every split and says when they are too many. Add is thread-safe; the rest is for afterwards.
class RejectLog {
 public:
  // The sources are borrowed.
  RejectLog(std::vector<const ImageSource*> splits, RejectLimit limit)
      : splits_(std::move(splits)), limit_(limit), found_(splits_.size()) {}
  // False when the split has more than it may have.
  bool Add(size_t split, const RejectedImage& image);
  // By source ordinal.
  const std::map<uint64_t, RejectedImage>& Of(size_t split) const { return found_[split]; }
  // rejected.jsonl: a line for each image, by split and source ordinal.
  std::string Text() const;
  // kInvalidInput for the first split that has too many, with one of them as an example; `out` is the store's folder.
  Status Check(const std::string& out) const;

 private:
  bool TooMany(size_t split) const { return found_[split].size() > limit_.Of(splits_[split]->images().size()); }

  std::vector<const ImageSource*> splits_;
  RejectLimit limit_;
  std::mutex mutex_;
  std::vector<std::map<uint64_t, RejectedImage>> found_;  // [split], by source ordinal
};

}  // namespace plateau
