// MNIST and its relatives: images and labels in IDX files, plain or gzip.
#pragma once

#include <cstdint>
#include <string>

#include "common/error.h"
#include "dataset/readers/source.h"

namespace plateau {

// Training images are `images` with `labels`. Validation images are those of `test_images`, or, with `holdout`, the last ones of
// `images`; exactly one of the two is given.
struct MnistPaths {
  std::string images, labels;  // train-images-idx3-ubyte, train-labels-idx1-ubyte, also .gz: told by the content
  std::string test_images, test_labels;
  uint64_t holdout = 0;
  std::string synsets;  // optional: a class a line as in synset_words.txt; without it classes are "0" to the largest label
};

// Records are raw gray pixels, as they stand in the file; names are the image's number in its file, offsets count in the unpacked
// file. The source holds the unpacked files in memory (MNIST: 55 MB). Errors name file and value: magic number, sizes, counts that
// do not agree, a file that is cut off or goes on behind its end, a damaged gzip, labels outside the classes.
Result<DataSource> OpenMnist(const MnistPaths& paths);

}  // namespace plateau
