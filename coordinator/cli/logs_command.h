// `plateau logs`: what the ranks of a job printed.
#pragma once

#include "coordinator/cli/context.h"

namespace plateau {

void AddLogsCommand(CLI::App& app, CliContext& context);

}  // namespace plateau
