// The fuse verb: averages the posteriors of several tests.
#pragma once

#include <CLI/CLI.hpp>

namespace plateau {

void AddFuseVerb(CLI::App& app, int& exit_code);

}  // namespace plateau
