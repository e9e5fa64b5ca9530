// Caffe's label files: synset_words.txt and val.txt.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "common/error.h"
#include "dataset/manifest.h"

namespace plateau {

// Lines "n01440764 tench, Tinca tinca"; the line's number, from 0, is the class index. Empty lines are passed over. Errors name
// file and line: a synset given twice, no classes at all.
Result<std::vector<ClassInfo>> ReadSynsetWords(const std::string& path);

struct LabelFile {
  std::string path;
  size_t lines = 0;                                 // that hold a label
  std::unordered_map<std::string, int32_t> labels;  // by the file's name without folders
};

// Lines "ILSVRC2012_val_00000001.JPEG 65" with labels in [0, classes). Errors name file and line: not two fields, a label out of
// range, a name given twice.
Result<LabelFile> ReadLabelFile(const std::string& path, size_t classes);

}  // namespace plateau
