// The evaluate verb: tests a trained network on a split of a store.
#pragma once

#include <CLI/CLI.hpp>

namespace plateau {

void AddEvaluateVerb(CLI::App& app, int& exit_code);

}  // namespace plateau
