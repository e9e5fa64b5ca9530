// One reader a layout, and the JSON form of its options.
#include "dataset/source_spec.h"

#include <array>
#include <filesystem>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/text.h"
#include "dataset/readers/folder.h"
#include "dataset/readers/ilsvrc.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

struct TextField {
  const char* name;
  std::string SourceSpec::*value;
  bool path;
};
constexpr std::array kTextFields{TextField{"layout", &SourceSpec::layout, false}, TextField{"train", &SourceSpec::train, true},
                                 TextField{"val", &SourceSpec::val, true}, TextField{"val_labels", &SourceSpec::val_labels, true},
                                 TextField{"synsets", &SourceSpec::synsets, true}};

}  // namespace

Result<DataSource> OpenSource(const SourceSpec& spec) {
  if (spec.layout == "folder") {
    if (!spec.val_labels.empty())
      return Fail(ErrorCode::kInvalidInput, "--val-labels goes with --layout ilsvrc; a folder's labels are its class folders");
    return OpenFolder({spec.train, spec.val, spec.synsets});
  }
  if (spec.layout != "ilsvrc")
    return Fail(ErrorCode::kInvalidInput, "--layout {} is not known; there are ilsvrc and folder", spec.layout);
  if (spec.val_labels.empty())
    return Fail(ErrorCode::kInvalidInput, "--layout ilsvrc needs --val-labels FILE (val.txt: lines `name label`)");
  if (spec.synsets.empty())
    return Fail(ErrorCode::kInvalidInput, "--layout ilsvrc needs --synsets FILE (synset_words.txt: the line is the class index)");
  return OpenIlsvrc({spec.train, spec.val, spec.val_labels, spec.synsets});
}

SourceSpec WithAbsolutePaths(SourceSpec spec) {
  for (const auto& field : kTextFields)
    if (std::string& value = spec.*field.value; field.path && !value.empty())
      value = std::filesystem::absolute(value).lexically_normal().string();
  return spec;
}

Json SourceSpecToJson(const SourceSpec& spec) {
  Json json = Json::object();
  for (const auto& field : kTextFields)
    if (const std::string& value = spec.*field.value; !value.empty()) json[field.name] = value;
  return json;
}

Result<SourceSpec> SourceSpecFromJson(const Json& json, const std::string& where) {
  if (!json.is_object()) return Fail(ErrorCode::kInvalidInput, "{}: must be a section of fields", where);
  SourceSpec spec;
  std::vector<std::string> known;
  for (const auto& field : kTextFields) known.emplace_back(field.name);
  for (const auto& [name, value] : json.items()) {
    const TextField* found = nullptr;
    for (const auto& field : kTextFields)
      if (name == field.name) found = &field;
    if (found == nullptr) {
      const std::string nearest = NearestName(name, known);
      return Fail(ErrorCode::kInvalidInput, "{}: {}: is not known{}", where, name,
                  nearest.empty() ? "; there are " + JoinNames(known) : ", did you mean " + nearest + "?");
    }
    if (!value.is_string()) return Fail(ErrorCode::kInvalidInput, "{}: {}: must be a text", where, name);
    spec.*(found->value) = value.get<std::string>();
  }
  return spec;
}

}  // namespace plateau
