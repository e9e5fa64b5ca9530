// `plateau cancel` and `plateau resume`.
#pragma once

#include "coordinator/cli/context.h"

namespace plateau {

void AddCancelCommand(CLI::App& app, CliContext& context);
void AddResumeCommand(CLI::App& app, CliContext& context);

}  // namespace plateau
