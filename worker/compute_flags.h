// --device and --precision of the verbs that run a network.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "worker/backend/device/device.h"

namespace plateau {

struct ComputeFlags {
  std::string device = "auto", precision = "auto";
};

// `flags` lives as long as `verb`.
void AddComputeFlags(CLI::App& verb, ComputeFlags& flags);
// kInvalidInput for words that are none, kUnsupported for what this machine cannot do.
Result<Compute> ChooseCompute(const ComputeFlags& flags);
// Refuses an --algorithm other than auto where a device computes, whose algorithms are timed.
Status CheckAlgorithm(const std::string& algorithm, const Compute& compute);

}  // namespace plateau
