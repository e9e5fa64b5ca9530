// `plateau-worker doctor`: what is there on this machine, and whether it works.
#pragma once

#include <CLI/CLI.hpp>

namespace plateau {

void AddDoctorVerb(CLI::App& app, int& exit_code);

}  // namespace plateau
