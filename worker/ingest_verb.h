// `plateau-worker ingest`: builds shards of the coordinator's ingests.
#pragma once

namespace CLI {
class App;
}

namespace plateau {

void AddIngestVerb(CLI::App& app, int& exit_code);

}  // namespace plateau
