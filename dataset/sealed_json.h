// JSON files that carry their own checksum, so that a changed byte is noticed before a value is believed.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "common/error.h"

namespace plateau {

// The text of `document` (an object) with a first field "file_checksum": XXH3-64 of the whole text in which the sixteen digits of
// that field stand as zeros. Indented by two, ends with a newline. Any field of that name in `document` is replaced.
std::string SealJson(const nlohmann::ordered_json& document);
// The object behind a sealed text. kCorrupt, naming `path`, when it is no JSON object or the checksum differs.
Result<nlohmann::ordered_json> OpenSealedJson(std::string_view text, const std::string& path);

// A field of a sealed object, converted; the error names path and field.
template <typename T, typename Json>
Status ReadField(const Json& object, const char* field, const std::string& path, T& out) {
  const auto found = object.find(field);
  if (found == object.end()) return Fail(ErrorCode::kCorrupt, "{}: field `{}` is missing", path, field);
  try {
    found->get_to(out);
  } catch (const typename Json::exception& error) {
    return Fail(ErrorCode::kCorrupt, "{}: field `{}` cannot be read: {}", path, field, error.what());
  }
  return {};
}

}  // namespace plateau
