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
#include "dataset/readers/mnist.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

enum Layouts : unsigned { kIlsvrc = 1, kFolder = 2, kMnist = 4, kAll = 7 };

struct LayoutName {
  const char* name;
  Layouts layout;
};
constexpr std::array kLayouts{LayoutName{"ilsvrc", kIlsvrc}, LayoutName{"folder", kFolder}, LayoutName{"mnist", kMnist}};

struct TextField {
  const char* name;
  const char* option;
  std::string SourceSpec::*value;
  unsigned layouts;  // that know it
};
constexpr std::array kTextFields{TextField{"layout", "--layout", &SourceSpec::layout, kAll},
                                 TextField{"train", "--train", &SourceSpec::train, kIlsvrc | kFolder},
                                 TextField{"val", "--val", &SourceSpec::val, kIlsvrc | kFolder},
                                 TextField{"val_labels", "--val-labels", &SourceSpec::val_labels, kIlsvrc | kFolder},
                                 TextField{"devkit_synsets", "--devkit-synsets", &SourceSpec::devkit_synsets, kIlsvrc | kFolder},
                                 TextField{"synsets", "--synsets", &SourceSpec::synsets, kAll},
                                 TextField{"images", "--images", &SourceSpec::images, kMnist},
                                 TextField{"labels", "--labels", &SourceSpec::labels, kMnist},
                                 TextField{"test_images", "--test-images", &SourceSpec::test_images, kMnist},
                                 TextField{"test_labels", "--test-labels", &SourceSpec::test_labels, kMnist}};
constexpr const char* kHoldout = "holdout";

Result<Layouts> FindLayout(const std::string& name) {
  for (const auto& known : kLayouts)
    if (name == known.name) return known.layout;
  return Fail(ErrorCode::kInvalidInput, "--layout {} is not known; there are ilsvrc, folder and mnist", name);
}

std::string LayoutsOf(unsigned layouts) {
  std::vector<std::string> names;
  for (const auto& known : kLayouts)
    if ((layouts & known.layout) != 0) names.emplace_back(known.name);
  return JoinNames(names);
}

// Every option belongs to the layout; train and val are there where it has them.
Status CheckFields(const SourceSpec& spec, Layouts layout) {
  for (const auto& field : kTextFields) {
    const std::string& value = spec.*field.value;
    if (!value.empty() && (field.layouts & layout) == 0)
      return Fail(ErrorCode::kInvalidInput, "{} does not go with --layout {}; it belongs to {}", field.option, spec.layout,
                  LayoutsOf(field.layouts));
  }
  if (spec.holdout > 0 && layout != kMnist)
    return Fail(ErrorCode::kInvalidInput, "--holdout does not go with --layout {}; it belongs to mnist", spec.layout);
  if (layout != kMnist && (spec.train.empty() || spec.val.empty()))
    return Fail(ErrorCode::kInvalidInput, "--layout {} needs {} {}", spec.layout, spec.train.empty() ? "--train" : "--val",
                layout == kIlsvrc ? "TAR" : "FOLDER");
  if (!spec.devkit_synsets.empty() && spec.val_labels.empty())
    return Fail(ErrorCode::kInvalidInput, "--devkit-synsets goes with --val-labels, the ground truth whose ids it explains");
  return {};
}

}  // namespace

Result<DataSource> OpenSource(const SourceSpec& spec) {
  PLATEAU_ASSIGN(const Layouts layout, FindLayout(spec.layout));
  PLATEAU_TRY(CheckFields(spec, layout));
  if (layout == kMnist)
    return OpenMnist({spec.images, spec.labels, spec.test_images, spec.test_labels, spec.holdout, spec.synsets});
  if (layout == kFolder) return OpenFolder({spec.train, spec.val, spec.synsets, spec.val_labels, spec.devkit_synsets});
  if (spec.val_labels.empty())
    return Fail(ErrorCode::kInvalidInput,
                "--layout ilsvrc needs --val-labels FILE (val.txt, the devkit's ground truth, or LOC_val_solution.csv)");
  if (spec.synsets.empty())
    return Fail(ErrorCode::kInvalidInput, "--layout ilsvrc needs --synsets FILE (synset_words.txt: the line is the class index)");
  return OpenIlsvrc({spec.train, spec.val, spec.val_labels, spec.synsets, spec.devkit_synsets});
}

SourceSpec WithAbsolutePaths(SourceSpec spec) {
  for (const auto& field : kTextFields)
    if (std::string& value = spec.*field.value; field.value != &SourceSpec::layout && !value.empty())
      value = std::filesystem::absolute(value).lexically_normal().string();
  return spec;
}

Json SourceSpecToJson(const SourceSpec& spec) {
  Json json = Json::object();
  for (const auto& field : kTextFields)
    if (const std::string& value = spec.*field.value; !value.empty()) json[field.name] = value;
  if (spec.holdout > 0) json[kHoldout] = spec.holdout;
  return json;
}

Result<SourceSpec> SourceSpecFromJson(const Json& json, const std::string& where) {
  if (!json.is_object()) return Fail(ErrorCode::kInvalidInput, "{}: must be a section of fields", where);
  SourceSpec spec;
  std::vector<std::string> known;
  for (const auto& field : kTextFields) known.emplace_back(field.name);
  known.emplace_back(kHoldout);
  for (const auto& [name, value] : json.items()) {
    if (name == kHoldout) {
      if (!value.is_number_unsigned()) return Fail(ErrorCode::kInvalidInput, "{}: {}: must be a number of images", where, name);
      spec.holdout = value.get<uint64_t>();
      continue;
    }
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
