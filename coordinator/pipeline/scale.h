// The sizes of a pipeline's jobs, multiplied alike. Pure.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "common/error.h"

namespace plateau {

// "1/7", 0.25, 1; null: 1. kInvalidInput names `where` and the value.
Result<double> ReadFactor(const nlohmann::json* value, const std::string& where);

// Multiplies data.crop, data.train_scale and validation.scale of a training, evaluate.scales of an evaluation, to the nearest whole number. The
// paper's own sizes (224, 256) stand in for what a training leaves out, so that they are scaled as well.
void ScaleSizes(nlohmann::json& spec, double factor);

}  // namespace plateau
