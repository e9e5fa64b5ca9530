// `plateau dataset ingest | watch | list | cancel | info | verify | synthesize`.
#pragma once

#include "coordinator/cli/context.h"

namespace plateau {

// Registers the subcommand `dataset` with its verbs. Their callbacks do the work and set context.exit_code; messages go to stderr,
// results (text or --json) to stdout.
void AddDatasetCommand(CLI::App& app, CliContext& context);

}  // namespace plateau
