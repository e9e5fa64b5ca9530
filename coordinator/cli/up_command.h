// `plateau up` and `plateau down`: starting and stopping the coordinator of this machine.
#pragma once

#include "coordinator/cli/context.h"

namespace plateau {

void AddUpCommand(CLI::App& app, CliContext& context);
void AddDownCommand(CLI::App& app, CliContext& context);

}  // namespace plateau
