// Reads names of classes.
#include "worker/class_words.h"

#include <algorithm>
#include <map>

#include "common/text.h"

namespace plateau {

Result<std::vector<ClassInfo>> ReadClassWords(FileSystem& files, const std::string& path) {
  PLATEAU_ASSIGN(const std::string text, files.Read(path));
  std::vector<ClassInfo> classes;
  auto lines = SplitText(text, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  for (size_t i = 0; i < lines.size(); ++i) {
    std::string& line = lines[i];
    if (line.ends_with('\r')) line.pop_back();
    const size_t blank = std::min(line.find_first_of(" \t"), line.size());
    if (blank == 0) return Fail(ErrorCode::kInvalidInput, "{}: line {} does not begin with a class's name; write \"n01440764 tench\"", path, i + 1);
    classes.push_back({line.substr(0, blank), line.substr(std::min(line.find_first_not_of(" \t", blank), line.size()))});
  }
  if (classes.empty()) return Fail(ErrorCode::kInvalidInput, "{}: holds no classes; write a line such as \"n01440764 tench\" for each", path);
  return classes;
}

Status NameClasses(const std::vector<ClassInfo>& known, const std::string& path, std::vector<ClassInfo>& classes) {
  std::map<std::string, std::string> words;
  for (const ClassInfo& one : known) words[one.synset] = one.words;
  if (std::all_of(classes.begin(), classes.end(), [&](const ClassInfo& one) { return words.contains(one.synset); })) {
    for (ClassInfo& one : classes) one.words = words.at(one.synset);
    return {};
  }
  if (known.size() != classes.size())
    return Fail(ErrorCode::kInvalidInput, "{}: names {} classes, the network has {}; give a line for each, in the network's order", path,
                known.size(), classes.size());
  classes = known;
  return {};
}

}  // namespace plateau
