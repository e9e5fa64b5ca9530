// `plateau dataset ingest | info | verify | synthesize`.
#pragma once

namespace CLI {
class App;
}

namespace plateau {

// Registers the subcommand `dataset` with its verbs. Their callbacks do the work and set `exit_code`; messages go to stderr,
// results (text or --json) to stdout.
void AddDatasetCommand(CLI::App& app, int& exit_code);

}  // namespace plateau
