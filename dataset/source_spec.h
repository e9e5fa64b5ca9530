// Where the images of an ingest come from, as a value that can be stored and sent: whoever has it opens the same source.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "common/error.h"
#include "dataset/readers/source.h"

namespace plateau {

struct SourceSpec {
  std::string layout = "ilsvrc";  // "ilsvrc": tars as they are distributed; "folder": DIR/<class>/<image>
  std::string train;              // tar, or folder of class folders
  std::string val;
  std::string val_labels;  // ilsvrc: val.txt, lines `name label`
  std::string synsets;     // synset_words.txt; optional for folders
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
