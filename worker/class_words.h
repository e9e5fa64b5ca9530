// Names of classes from a file of lines such as "n01440764 tench, Tinca tinca".
#pragma once

#include <string>
#include <vector>

#include "common/file.h"
#include "dataset/manifest.h"

namespace plateau {

// One class a line: a synset and, behind the first blank, words. kInvalidInput names the line that is empty.
Result<std::vector<ClassInfo>> ReadClassWords(FileSystem& files, const std::string& path);
// Gives `classes` the words of `known`: by synset where the file has every one of them, else by order, when both are equally many.
Status NameClasses(const std::vector<ClassInfo>& known, const std::string& path, std::vector<ClassInfo>& classes);

}  // namespace plateau
