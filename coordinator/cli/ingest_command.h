// Ingests of a coordinator: `plateau dataset ingest --coordinator`, and `plateau dataset watch | list | cancel`.
#pragma once

#include <string>

#include "coordinator/cli/context.h"
#include "dataset/ingest_order.h"

namespace plateau {

struct RemoteIngestOptions {
  bool wanted = false;  // --coordinator was given
  std::string address;  // with a value
  int workers = 1;
  bool detach = false;
  std::string key;
};

// The options of `ingest` that order it from a coordinator; they fill `options`, which outlives the verb.
void AddRemoteIngestOptions(CLI::App& verb, CliContext& context, RemoteIngestOptions& options);
// Orders it and watches it to its end, unless detached. Sets context.exit_code.
void OrderIngest(CliContext& context, IngestOrder order, const RemoteIngestOptions& options);

void AddIngestVerbs(CLI::App& dataset, CliContext& context);

}  // namespace plateau
