// Reads val.txt, the devkit's ground truth, and Kaggle's solution file.
#include "dataset/readers/val_labels.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <optional>
#include <sstream>

#include "common/log.h"
#include "common/text.h"
#include "dataset/readers/label_file.h"
#include "dataset/readers/tar_scan.h"

namespace plateau {
namespace {

constexpr std::string_view kKaggleHeader = "ImageId,PredictionString";
constexpr const char* kDevkitFirst =
    "n02119789";  // id 1 of the devkits of 2012 and later (kit fox); alphabetically it is number 279

using ClassIndex = std::unordered_map<std::string, int32_t>;

std::optional<int64_t> ParseNumber(std::string_view text) {
  int64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

bool IsSynset(std::string_view text) {
  return text.size() == 9 && text[0] == 'n' &&
         std::all_of(text.begin() + 1, text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::vector<std::string> Fields(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> fields;
  for (std::string field; in >> field;) fields.push_back(std::move(field));
  return fields;
}

std::string NotInSynsets(const std::string& synset, const ValLabelFiles& files, const std::vector<ClassInfo>& classes) {
  std::vector<std::string> known;
  for (const auto& info : classes) known.push_back(info.synset);
  const std::string nearest = NearestName(synset, known);
  return fmt::format("synset {} is not in {}{}", synset, files.synsets, nearest.empty() ? "" : " (nearest: " + nearest + ")");
}

// The class of each id; -1 where the synset is none of the classes (the devkit also lists inner nodes of WordNet).
Result<std::vector<int32_t>> ReadDevkitSynsets(const ValLabelFiles& files, const ClassIndex& index) {
  PLATEAU_ASSIGN(const auto lines, ReadLines(files.devkit_synsets));
  std::vector<int32_t> classes;
  std::unordered_map<std::string, size_t> seen;
  bool ascending = true;
  std::string before;
  for (const auto& [number, line] : lines) {
    const std::string synset = line.substr(0, line.find_first_of(" \t,"));
    if (const auto [first, fresh] = seen.emplace(synset, number); !fresh)
      return Fail(ErrorCode::kInvalidInput, "{}:{}: synset {} stands already on line {}; remove one", files.devkit_synsets, number,
                  synset, first->second);
    ascending = ascending && before < synset;
    before = synset;
    const auto found = index.find(synset);
    classes.push_back(found == index.end() ? -1 : found->second);
  }
  if (ascending && seen.contains(kDevkitFirst) && seen.size() > 1)
    return Fail(ErrorCode::kInvalidInput,
                "{}: the synsets are in alphabetical order, but the devkit's order begins with {}; take the list from the devkit's "
                "data/meta.mat (or map_clsloc.txt), not from synset_words.txt",
                files.devkit_synsets, kDevkitFirst);
  if (ascending && seen.size() > 1)
    LogWarning("{}: the synsets are in alphabetical order; that of ILSVRC's devkits is another one", files.devkit_synsets);
  return classes;
}

Result<std::vector<int32_t>> ReadGroundTruth(const ValLabelFiles& files, const std::vector<TextLine>& lines,
                                             const ClassIndex& index) {
  if (files.devkit_synsets.empty())
    return Fail(
        ErrorCode::kInvalidInput,
        "{}: holds ids of the ILSVRC devkit (a number a line), and the devkit numbers synsets in an order of its own, which "
        "no other file tells: give --devkit-synsets FILE, the synset ids in the devkit's order, one a line (from its "
        "data/meta.mat or map_clsloc.txt); or give Caffe's val.txt",
        files.labels);
  PLATEAU_ASSIGN(const auto classes, ReadDevkitSynsets(files, index));
  std::vector<int32_t> labels;
  for (const auto& [number, line] : lines) {
    const auto id = ParseNumber(line);
    if (!id)
      return Fail(ErrorCode::kInvalidInput, "{}:{}: \"{}\" is no id; expected one whole number a line", files.labels, number, line);
    if (*id < 1 || static_cast<uint64_t>(*id) > classes.size())
      return Fail(ErrorCode::kInvalidInput, "{}:{}: id {} is outside 1..{}, the lines of {}; do the two belong together?",
                  files.labels, number, *id, classes.size(), files.devkit_synsets);
    const int32_t label = classes[static_cast<size_t>(*id) - 1];
    if (label < 0)
      return Fail(ErrorCode::kInvalidInput,
                  "{}:{}: id {} is a synset of {} that is not in {}; are these the classes of the images?", files.labels, number,
                  *id, files.devkit_synsets, files.synsets);
    labels.push_back(label);
  }
  return labels;
}

// The class of one line's boxes.
Result<int32_t> ReadBoxes(const ValLabelFiles& files, const TextLine& line, const std::vector<std::string>& fields,
                          const std::vector<ClassInfo>& classes, const ClassIndex& index) {
  if (fields.empty() || fields.size() % 5 != 0)
    return Fail(ErrorCode::kInvalidInput, "{}:{}: {} fields behind the comma; expected `synset x y x y` once for each box",
                files.labels, line.number, fields.size());
  for (size_t i = 0; i < fields.size(); ++i) {
    if (i % 5 == 0 && fields[i] != fields[0])
      return Fail(ErrorCode::kInvalidInput, "{}:{}: boxes of {} and of {}: an image has one class; remove the line's other boxes",
                  files.labels, line.number, fields[0], fields[i]);
    if (i % 5 != 0 && !ParseNumber(fields[i]))
      return Fail(ErrorCode::kInvalidInput, "{}:{}: \"{}\" is no coordinate; expected `synset x y x y` once for each box",
                  files.labels, line.number, fields[i]);
  }
  const auto found = index.find(fields[0]);
  if (found == index.end())
    return Fail(ErrorCode::kInvalidInput, "{}:{}: {}", files.labels, line.number, NotInSynsets(fields[0], files, classes));
  return found->second;
}

Result<std::unordered_map<std::string, int32_t>> ReadKaggle(const ValLabelFiles& files, const std::vector<TextLine>& lines,
                                                            const std::vector<ClassInfo>& classes, const ClassIndex& index) {
  std::unordered_map<std::string, int32_t> labels;
  for (size_t i = 1; i < lines.size(); ++i) {  // behind the header
    const auto& [number, line] = lines[i];
    const auto comma = line.find(',');
    if (comma == std::string::npos || comma == 0)
      return Fail(ErrorCode::kInvalidInput, "{}:{}: \"{}\" is not `{}`", files.labels, number, line, kKaggleHeader);
    PLATEAU_ASSIGN(const int32_t label, ReadBoxes(files, lines[i], Fields(line.substr(comma + 1)), classes, index));
    if (!labels.emplace(line.substr(0, comma), label).second)
      return Fail(ErrorCode::kInvalidInput, "{}:{}: {} is labelled a second time; remove one of the lines", files.labels, number,
                  line.substr(0, comma));
  }
  return labels;
}

// Kaggle's file without its first line would pass for `name label`, the last coordinate being the label.
bool IsKaggleWithoutHeader(const std::string& line) {
  const auto comma = line.find(',');
  return comma != std::string::npos && IsSynset(std::string_view(line).substr(comma + 1, 9));
}

std::string WithoutExtension(const std::string& name) {
  const auto dot = name.rfind('.');
  return dot == std::string::npos || dot == 0 ? name : name.substr(0, dot);
}

std::string Where(const SourceImage& image) {
  return image.offset > 0 ? fmt::format("{} at offset {}", image.name, image.offset) : image.name;
}

}  // namespace

Result<ValLabels> ValLabels::Read(const ValLabelFiles& files, const std::vector<ClassInfo>& classes) {
  PLATEAU_ASSIGN(const auto lines, ReadLines(files.labels));
  if (lines.empty())
    return Fail(ErrorCode::kInvalidInput,
                "{}: holds no labels; expected val.txt, the devkit's ground truth, or LOC_val_solution.csv", files.labels);
  ClassIndex index;
  for (const auto& info : classes) index.emplace(info.synset, static_cast<int32_t>(index.size()));
  ValLabels labels;
  labels.path_ = files.labels;
  const std::string& first = lines.front().text;
  const bool ground_truth = ParseNumber(first).has_value();
  if (!ground_truth && !files.devkit_synsets.empty())
    return Fail(ErrorCode::kInvalidInput,
                "--devkit-synsets {} goes with the devkit's ground truth (a number a line), but {} begins with \"{}\"; leave the "
                "option out or give ILSVRC2012_validation_ground_truth.txt",
                files.devkit_synsets, files.labels, first);
  if (ground_truth) {
    PLATEAU_ASSIGN(labels.in_order_, ReadGroundTruth(files, lines, index));
  } else if (first == kKaggleHeader) {
    labels.extensions_ = false;
    PLATEAU_ASSIGN(labels.by_name_, ReadKaggle(files, lines, classes, index));
  } else if (IsKaggleWithoutHeader(first)) {
    return Fail(ErrorCode::kInvalidInput, "{}:{}: looks like LOC_val_solution.csv without its first line; put \"{}\" before it",
                files.labels, lines.front().number, kKaggleHeader);
  } else {
    PLATEAU_ASSIGN(labels.by_name_, ReadLabelFile(files.labels, lines, classes.size()));
  }
  return labels;
}

Status ValLabels::ApplyInOrder(const std::string& place, std::vector<SourceImage>& images) const {
  if (images.size() != in_order_.size())
    return Fail(ErrorCode::kInvalidInput, "{}: {} ids for the {} images of {}; ids go by the sorted names, so none may be missing",
                path_, in_order_.size(), images.size(), place);
  std::vector<std::pair<std::string, size_t>> sorted;
  for (size_t i = 0; i < images.size(); ++i) sorted.emplace_back(BaseName(images[i].name), i);
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0; i < sorted.size(); ++i) {
    if (i > 0 && sorted[i].first == sorted[i - 1].first)
      return Fail(ErrorCode::kInvalidInput, "{}: two images are named {}, so the ids of {} cannot be told apart", place,
                  sorted[i].first, path_);
    images[sorted[i].second].label = in_order_[i];
  }
  return {};
}

Status ValLabels::Apply(const std::string& place, std::vector<SourceImage>& images) const {
  if (!in_order_.empty()) return ApplyInOrder(place, images);
  for (auto& image : images) {
    const std::string name = BaseName(image.name);
    const auto label = by_name_.find(extensions_ ? name : WithoutExtension(name));
    if (label == by_name_.end())
      return Fail(ErrorCode::kInvalidInput, "{}: {} labels for the {} images of {}; the first image without a label is {}", path_,
                  by_name_.size(), images.size(), place, Where(image));
    image.label = label->second;
  }
  if (by_name_.size() > images.size())
    LogWarning("{}: {} labels for the {} images of {}: the others are not used", path_, by_name_.size(), images.size(), place);
  return {};
}

}  // namespace plateau
