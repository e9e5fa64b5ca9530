// Where the images of an ingest come from, as a value that can be stored and sent: whoever has it opens the same source.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "common/error.h"
#include "dataset/readers/source.h"

namespace plateau {

struct SourceSpec {
  std::string layout = "ilsvrc";  // "ilsvrc": tars as they are distributed; "folder": DIR/<class>/<image>; "mnist": IDX files
  std::string train;              // ilsvrc, folder: tar, or folder of class folders
  std::string val;
  std::string val_labels;      // ilsvrc, and folders whose val has no class folders: see ValLabelFiles
  std::string devkit_synsets;  // with val_labels that are the devkit's ground truth
  std::string synsets;         // synset_words.txt; optional but for ilsvrc
  std::string images, labels;  // mnist; see MnistPaths
  std::string test_images, test_labels;
  uint64_t holdout = 0;
  bool operator==(const SourceSpec&) const = default;
};

// Opens the reader of the layout. kInvalidInput names the option that is missing or does not go with the layout. Blocks while the
// source is listed.
Result<DataSource> OpenSource(const SourceSpec& spec);

// Paths made absolute: they mean the folder of the caller, not of whoever opens the source.
SourceSpec WithAbsolutePaths(SourceSpec spec);

// An object of the fields that are not empty; the names are those of the options (`val_labels`). A field that is not known is
// kInvalidInput, its message begins "`where`: field: ".
nlohmann::ordered_json SourceSpecToJson(const SourceSpec& spec);
Result<SourceSpec> SourceSpecFromJson(const nlohmann::ordered_json& json, const std::string& where);

}  // namespace plateau
