// Reads the text files that name classes and label validation images.
#include "dataset/readers/label_file.h"

#include <charconv>

#include "common/file.h"
#include "common/text.h"
#include "dataset/readers/tar_scan.h"

namespace plateau {

Result<std::vector<TextLine>> ReadLines(const std::string& path) {
  PosixFileSystem files;
  PLATEAU_ASSIGN(const std::string text, files.Read(path));
  std::vector<TextLine> lines;
  size_t number = 0, begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    const auto last = line.find_last_not_of(" \t\r");
    line.resize(last == std::string::npos ? 0 : last + 1);
    ++number;
    if (!line.empty()) lines.push_back({number, std::move(line)});
    begin = end + 1;
  }
  return lines;
}

Result<std::vector<ClassInfo>> ReadSynsetWords(const std::string& path) {
  PLATEAU_ASSIGN(const auto lines, ReadLines(path));
  std::vector<ClassInfo> classes;
  std::unordered_map<std::string, size_t> seen;
  for (const auto& [number, line] : lines) {
    const auto space = line.find_first_of(" \t");
    const auto words = space == std::string::npos ? space : line.find_first_not_of(" \t", space);
    ClassInfo info{line.substr(0, space), words == std::string::npos ? "" : line.substr(words)};
    if (info.synset.empty())
      return Fail(ErrorCode::kInvalidInput, "{}:{}: the line begins with a blank; expected `synset words`", path, number);
    if (const auto [before, fresh] = seen.emplace(info.synset, number); !fresh)
      return Fail(ErrorCode::kInvalidInput, "{}:{}: synset {} stands already on line {}; remove one", path, number, info.synset,
                  before->second);
    classes.push_back(std::move(info));
  }
  if (classes.empty()) return Fail(ErrorCode::kInvalidInput, "{}: holds no classes; expected lines `synset words`", path);
  return classes;
}

Result<std::unordered_map<std::string, int32_t>> ReadLabelFile(const std::string& path, const std::vector<TextLine>& lines,
                                                               size_t classes) {
  std::unordered_map<std::string, int32_t> labels;
  for (const auto& [number, line] : lines) {
    const auto space = line.find_last_of(" \t");
    const auto name_end = space == std::string::npos ? space : line.find_last_not_of(" \t", space);
    if (name_end == std::string::npos)
      return Fail(ErrorCode::kInvalidInput, "{}:{}: \"{}\" is not `name label`", path, number, line);
    const std::string text = line.substr(space + 1);
    int64_t label = -1;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), label);
    if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size())
      return Fail(ErrorCode::kInvalidInput, "{}:{}: label \"{}\" is no whole number", path, number, text);
    if (label < 0 || label >= static_cast<int64_t>(classes))
      return Fail(ErrorCode::kInvalidInput,
                  "{}:{}: label {} is outside 0..{}; do the labels belong to these synsets, counted from 0?", path, number, label,
                  classes - 1);
    const std::string name = BaseName(line.substr(0, name_end + 1));
    if (!labels.emplace(name, static_cast<int32_t>(label)).second)
      return Fail(ErrorCode::kInvalidInput, "{}:{}: {} is labelled a second time; remove one of the lines", path, number, name);
  }
  return labels;
}

}  // namespace plateau
