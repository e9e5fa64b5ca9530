// YAML text to JSON values, and `--set` edits of a document.
#include <charconv>
#include <cmath>

#include <nlohmann/json.hpp>
#include <yaml-cpp/yaml.h>

#include "common/job_spec.h"
#include "common/text.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

// YAML 1.2's core schema for plain scalars; quoted ones are always text.
Json ScalarToJson(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") return text;  // quoted
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") return nullptr;
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  const char* begin = text.data() + (text[0] == '+' ? 1 : 0);
  const char* end = text.data() + text.size();
  int64_t integer = 0;
  if (auto [rest, error] = std::from_chars(begin, end, integer); error == std::errc() && rest == end) return integer;
  double real = 0;
  if (auto [rest, error] = std::from_chars(begin, end, real); error == std::errc() && rest == end && std::isfinite(real)) return real;
  return text;
}

constexpr int kMaxNodes = 10'000;  // aliases are written out, so that a few lines could stand for billions

Result<Json> NodeToJson(const YAML::Node& node, const std::string& where, int depth, int& nodes_left) {
  if (--nodes_left < 0) return Fail(ErrorCode::kInvalidInput, "{}: holds more than {} values, aliases written out", where, kMaxNodes);
  if (depth > 32) return Fail(ErrorCode::kInvalidInput, "{}: nested deeper than 32 levels", where);
  switch (node.Type()) {
    case YAML::NodeType::Map: {
      Json object = Json::object();
      for (const auto& entry : node) {
        const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : std::string();
        if (key.empty()) return Fail(ErrorCode::kInvalidInput, "{}:{}: a key is not plain text", where, entry.first.Mark().line + 1);
        if (object.contains(key))
          return Fail(ErrorCode::kInvalidInput, "{}:{}: field \"{}\" stands twice; keep one", where, entry.first.Mark().line + 1, key);
        PLATEAU_ASSIGN(object[key], NodeToJson(entry.second, where, depth + 1, nodes_left));
      }
      return object;
    }
    case YAML::NodeType::Sequence: {
      Json array = Json::array();
      for (const auto& element : node) {
        PLATEAU_ASSIGN(auto value, NodeToJson(element, where, depth + 1, nodes_left));
        array.push_back(std::move(value));
      }
      return array;
    }
    case YAML::NodeType::Scalar: return ScalarToJson(node);
    default: return Json(nullptr);
  }
}

}  // namespace

Result<Json> YamlToJson(std::string_view text, const std::string& where) {
  try {
    const auto documents = YAML::LoadAll(std::string(text));
    if (documents.size() != 1)
      return Fail(ErrorCode::kInvalidInput, "{}: holds {} YAML documents, expected one job specification", where, documents.size());
    int nodes_left = kMaxNodes;
    return NodeToJson(documents[0], where, 0, nodes_left);
  } catch (const YAML::Exception& error) {
    return Fail(ErrorCode::kInvalidInput, "{}:{}:{}: not valid YAML: {}", where, error.mark.line + 1, error.mark.column + 1, error.msg);
  }
}

Status SetField(Json& document, const std::string& dotted, const std::string& yaml_value) {
  PLATEAU_ASSIGN(auto value, YamlToJson(yaml_value.empty() ? "''" : yaml_value, "--set " + dotted));
  Json* at = &document;
  const auto parts = SplitText(dotted, '.');
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].empty()) return Fail(ErrorCode::kInvalidInput, "--set {}: a field's name is empty; write section.field=value", dotted);
    if (at->is_null()) *at = Json::object();
    if (!at->is_object()) return Fail(ErrorCode::kInvalidInput, "--set {}: \"{}\" is inside a plain value, not a section", dotted, parts[i]);
    at = &(*at)[parts[i]];
  }
  *at = std::move(value);
  return {};
}

}  // namespace plateau
