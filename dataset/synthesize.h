// Makes an ILSVRC-shaped data set that a small network can learn: as tars, as folders, or as a store.
#pragma once

#include <cstdint>
#include <string>

#include "common/error.h"
#include "common/file.h"
#include "dataset/readers/source.h"

namespace plateau {

struct SynthesizeOptions {
  int classes = 4;       // 2 .. kSyntheticClasses
  uint64_t train = 400;  // images, spread evenly over the classes; at least one a class
  uint64_t val = 80;
  int side = 64;  // shortest side, pixels, 8 .. 4096
  uint64_t seed = 1;
};

// The set as a source: images are drawn and encoded (JPEG, quality 90) when they are read. train comes class by class, val mixed.
Result<DataSource> OpenSynthetic(const SynthesizeOptions& options);

// Writes train.tar (of one tar a synset), val.tar, val.txt and synset_words.txt into `out`, which is made; files of these names are
// replaced. Deterministic: the same options give the same bytes.
Status WriteIlsvrc(FileSystem& files, const DataSource& source, const std::string& out);
// Writes out/train/<synset>/<name>, out/val/<synset>/<name> and out/synset_words.txt.
Status WriteFolders(FileSystem& files, const DataSource& source, const std::string& out);

}  // namespace plateau
