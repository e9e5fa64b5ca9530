// Caffe's label files, synset_words.txt and val.txt, and the lines of any text file.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "common/error.h"
#include "dataset/manifest.h"

namespace plateau {

struct TextLine {
  size_t number = 0;  // in the file, from 1
  std::string text;   // without blanks and carriage return at its end
};
// The lines that hold something.
Result<std::vector<TextLine>> ReadLines(const std::string& path);

// Lines "n01440764 tench, Tinca tinca"; the line's number, from 0, is the class index. Empty lines are passed over. Errors name
// file and line: a synset given twice, no classes at all.
Result<std::vector<ClassInfo>> ReadSynsetWords(const std::string& path);

// Lines "ILSVRC2012_val_00000001.JPEG 65" with labels in [0, classes), by the file's name without folders. Errors name file and
// line: not two fields, a label out of range, a name given twice.
Result<std::unordered_map<std::string, int32_t>> ReadLabelFile(const std::string& path, const std::vector<TextLine>& lines,
                                                               size_t classes);

}  // namespace plateau
