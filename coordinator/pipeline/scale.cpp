// Reading the factor, and rounding sizes.
#include "coordinator/pipeline/scale.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "common/text.h"

namespace plateau {
namespace {

using nlohmann::json;

void Scale(json& value, double factor) {
  if (value.is_array())
    for (auto& one : value) Scale(one, factor);
  else if (value.is_number()) value = static_cast<int64_t>(std::llround(std::clamp(value.get<double>() * factor, -1e9, 1e9)));
}

}  // namespace

Result<double> ReadFactor(const json* value, const std::string& where) {
  if (value == nullptr) return 1.0;
  double factor = 0;
  if (value->is_number()) {
    factor = *value;
  } else if (value->is_string()) {
    const auto parts = SplitText(value->get<std::string>(), '/');
    char* end = nullptr;
    if (parts.size() == 2 && !parts[0].empty() && !parts[1].empty()) {
      factor = std::strtod(parts[0].c_str(), &end);
      if (*end == '\0') factor /= std::strtod(parts[1].c_str(), &end);
      if (*end != '\0') factor = 0;
    }
  }
  if (!(factor >= 0.01 && factor <= 10))
    return Fail(ErrorCode::kInvalidInput, "{}: scale_factor: {} is neither a number from 0.01 to 10 nor a fraction such as 1/7", where, value->dump());
  return factor;
}

void ScaleSizes(json& spec, double factor) {
  if (spec.contains("evaluate")) {
    if (spec["evaluate"].is_object() && spec["evaluate"].contains("scales")) Scale(spec["evaluate"]["scales"], factor);
    return;
  }
  json& data = spec["data"];
  if (!data.is_object()) return;
  if (!data.contains("crop")) data["crop"] = 224;
  if (!data.contains("train_scale")) data["train_scale"] = 256;
  Scale(data["crop"], factor);
  Scale(data["train_scale"], factor);
  if (spec.contains("validation") && spec["validation"].is_object() && spec["validation"].contains("scale"))
    Scale(spec["validation"]["scale"], factor);
}

}  // namespace plateau
