// Reads one section of a specification field by field: types, ranges, and unknown fields with the nearest known name.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/error.h"

namespace plateau {

// Collects the first error; later reads do nothing. Borrowed JSON must outlive the reader. A missing section reads as empty.
class SpecReader {
 public:
  SpecReader(const nlohmann::json* section, std::string where, std::string path);
  // Each leaves `out` alone when the field is missing.
  void Text(const char* field, std::string& out, bool required = false);
  void Choice(const char* field, const std::vector<std::string>& choices, std::string& out);
  void Integer(const char* field, int64_t low, int64_t high, int& out, bool required = false);
  void Integer64(const char* field, int64_t low, int64_t high, std::optional<int64_t>& out);
  void Unsigned64(const char* field, uint64_t& out);
  void Real(const char* field, double low, double high, double& out);
  void Boolean(const char* field, bool& out);
  // The raw value for fields of a form of their own; nullptr when missing.
  const nlohmann::json* Value(const char* field);
  // A later feature's field: accepted only with this value, refused with `reason` otherwise.
  void OnlyValue(const char* field, const nlohmann::json& value, const std::string& reason);
  SpecReader Section(const char* field);
  // Reports an error about a field of this section.
  void Refuse(const char* field, const std::string& what);
  void Adopt(const Status& status);
  // Call last: refuses fields that were never asked for.
  Status Finish();
  const std::string& where() const { return where_; }

 private:
  std::string Path(const std::string& field) const { return path_.empty() ? field : path_ + "." + field; }

  const nlohmann::json* section_;
  std::string where_, path_;
  std::vector<std::string> known_;
  std::optional<Error> error_;
};

}  // namespace plateau
