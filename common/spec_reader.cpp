// Field-by-field reading with errors that name the place, the value and the remedy.
#include "common/spec_reader.h"

#include <algorithm>
#include <cmath>

#include "common/text.h"

namespace plateau {
namespace {

std::string Shown(const nlohmann::json& value) {
  std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

std::optional<int64_t> WholeNumber(const nlohmann::json& value) {
  if (value.is_number_integer() || value.is_number_unsigned()) {
    if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return {};
    return value.get<int64_t>();
  }
  if (value.is_number_float() && std::floor(value.get<double>()) == value.get<double>() && std::abs(value.get<double>()) < 9e15)
    return static_cast<int64_t>(value.get<double>());
  return {};
}

}  // namespace

SpecReader::SpecReader(const nlohmann::json* section, std::string where, std::string path)
    : section_(section), where_(std::move(where)), path_(std::move(path)) {
  if (section_ != nullptr && section_->is_null()) section_ = nullptr;
  if (section_ != nullptr && !section_->is_object()) {
    error_ = Error{ErrorCode::kInvalidInput,
                   fmt::format("{}: {} is {}, expected a section of fields", where_, path_.empty() ? "the document" : path_, Shown(*section_))};
    section_ = nullptr;
  }
}

void SpecReader::Refuse(const char* field, const std::string& what) {
  if (!error_) error_ = Error{ErrorCode::kInvalidInput, fmt::format("{}: {}: {}", where_, Path(field), what)};
}

void SpecReader::Adopt(const Status& status) {
  if (!status && !error_) error_ = status.error();
}

const nlohmann::json* SpecReader::Value(const char* field) {
  known_.emplace_back(field);
  if (section_ == nullptr || error_) return nullptr;
  const auto found = section_->find(field);
  return found == section_->end() || found->is_null() ? nullptr : &*found;
}

void SpecReader::Text(const char* field, std::string& out, bool required) {
  const auto* value = Value(field);
  if (value == nullptr) {
    if (required) Refuse(field, "missing; give it as text");
  } else if (!value->is_string()) {
    Refuse(field, Shown(*value) + " is not text; put it in quotes");
  } else if (value->get<std::string>().empty()) {
    Refuse(field, "is empty");
  } else {
    out = value->get<std::string>();
  }
}

void SpecReader::Choice(const char* field, const std::vector<std::string>& choices, std::string& out) {
  const auto* value = Value(field);
  if (value == nullptr) return;
  const std::string text = value->is_string() ? value->get<std::string>() : Shown(*value);
  if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
    const std::string nearest = NearestName(text, choices);
    Refuse(field, fmt::format("\"{}\" is not one of {}{}", text, JoinNames(choices), nearest.empty() ? "" : "; did you mean " + nearest + "?"));
  } else {
    out = text;
  }
}

void SpecReader::Integer(const char* field, int64_t low, int64_t high, int& out, bool required) {
  std::optional<int64_t> wide;
  Integer64(field, low, high, wide);
  if (wide) out = static_cast<int>(*wide);
  else if (required) Refuse(field, "missing; give a whole number");
}

void SpecReader::Integer64(const char* field, int64_t low, int64_t high, std::optional<int64_t>& out) {
  const auto* value = Value(field);
  if (value == nullptr) return;
  const auto whole = WholeNumber(*value);
  if (!whole || *whole < low || *whole > high)
    Refuse(field, fmt::format("{} is not a whole number from {} to {}", Shown(*value), low, high));
  else
    out = *whole;
}

void SpecReader::Unsigned64(const char* field, uint64_t& out) {
  const auto* value = Value(field);
  if (value == nullptr) return;
  if (value->is_number_unsigned()) {
    out = value->get<uint64_t>();
    return;
  }
  const auto whole = WholeNumber(*value);
  if (!whole || *whole < 0) Refuse(field, Shown(*value) + " is not a whole number from 0 on");
  else out = static_cast<uint64_t>(*whole);
}

void SpecReader::Real(const char* field, double low, double high, double& out) {
  const auto* value = Value(field);
  if (value == nullptr) return;
  if (!value->is_number() || !(value->get<double>() >= low && value->get<double>() <= high))
    Refuse(field, fmt::format("{} is not a number from {:g} to {:g}", Shown(*value), low, high));
  else
    out = value->get<double>();
}

void SpecReader::Boolean(const char* field, bool& out) {
  const auto* value = Value(field);
  if (value == nullptr) return;
  if (!value->is_boolean()) Refuse(field, Shown(*value) + " is neither true nor false");
  else out = value->get<bool>();
}

void SpecReader::OnlyValue(const char* field, const nlohmann::json& only, const std::string& reason) {
  const auto* value = Value(field);
  if (value != nullptr && *value != only)
    Refuse(field, fmt::format("{} is not supported by this version ({}); leave the field out or set it to {}", Shown(*value), reason, Shown(only)));
}

SpecReader SpecReader::Section(const char* field) {
  const auto* value = Value(field);
  return SpecReader(value, where_, Path(field));
}

Status SpecReader::Finish() {
  if (error_) return Fail(*error_);
  if (section_ == nullptr) return {};
  for (const auto& [key, value] : section_->items()) {
    if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
    const std::string nearest = NearestName(key, known_);
    return Fail(ErrorCode::kInvalidInput, "{}: unknown field \"{}\"{}", where_, Path(key),
                nearest.empty() ? fmt::format("; known here: {}", JoinNames(known_)) : fmt::format("; did you mean \"{}\"?", Path(nearest)));
  }
  return {};
}

}  // namespace plateau
