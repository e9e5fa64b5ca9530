// Fresh weights: a pure function of scheme, seed, parameter and canonical position, whatever the layout, ranks and threads.
#pragma once

#include <cstdint>
#include <span>

#include "common/job_spec.h"
#include "worker/nn/parameter.h"

namespace plateau {

// Standard deviation of a weight under `scheme` (recipe: he 2/fan_in, glorot 2/(fan_in+fan_out), gaussian sigma^2); 0 for
// everything but weights.
double InitSigma(const InitScheme& scheme, const ParameterInfo& info);
// Weights are drawn; batch norm's scales and running variances are 1, all else 0. Fills `canonical` (info.CanonicalCount() values)
// of parameter number `parameter`.
void InitCanonical(const InitScheme& scheme, const ParameterInfo& info, int parameter, uint64_t seed, std::span<float> canonical);
// Sets every weight of the store and tells the plans; momentum is not touched (a new store's is zero).
void InitParameters(ParameterStore& store, const InitScheme& scheme, uint64_t seed);

}  // namespace plateau
