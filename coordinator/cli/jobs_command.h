// `plateau jobs`, `plateau show`, `plateau lr` and `plateau watch`: looking at jobs.
#pragma once

#include "coordinator/cli/context.h"

namespace plateau {

void AddJobsCommand(CLI::App& app, CliContext& context);
void AddShowCommand(CLI::App& app, CliContext& context);
void AddLrCommand(CLI::App& app, CliContext& context);
void AddWatchCommand(CLI::App& app, CliContext& context);

}  // namespace plateau
