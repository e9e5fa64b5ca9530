// Posteriors of evaluations (worker/EVALUATE.md): read, averaged, and turned into who was right on which image.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/file.h"

namespace plateau {

// Which images of a split an evaluation got right, in ascending order of source ordinal. Two can be compared image by image when
// their `ordinals` and `split_checksum` are equal.
struct Correctness {
  std::vector<int64_t> ordinals;
  std::vector<uint8_t> top1, top5;  // 1: right
  std::string split_checksum;
  int64_t Count1() const;
  int64_t Count5() const;
};

// Mean of posteriors, one file after the other; holds one sum whatever their number.
class PosteriorMean {
 public:
  // kInvalidInput names the file and how it differs from those before it (labels, ordinals, classes, split), or the row that is no
  // distribution; kUnsupported: another version.
  Status Add(FileSystem& files, const std::string& path);
  // The mean, rounded to float32; equal values go to the lower class index. At least one file was added.
  Correctness Judge() const;

 private:
  std::vector<double> sums_;  // [images, classes]
  std::vector<int32_t> labels_;
  std::vector<int64_t> ordinals_;
  std::string split_checksum_, first_path_;
  int64_t classes_ = 0;
  int files_ = 0;
};

}  // namespace plateau
