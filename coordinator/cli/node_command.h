// `plateau node add`, `node list`, `node remove`: the hosts that jobs are started on.
#pragma once

#include "coordinator/cli/context.h"

namespace plateau {

void AddNodeCommand(CLI::App& app, CliContext& context);

}  // namespace plateau
