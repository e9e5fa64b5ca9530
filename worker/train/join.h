// Makes a run that the user's own mpirun started a job of a coordinator: rank 0 registers it, every rank learns as what.
#pragma once

#include <string>

#include "common/error.h"
#include "common/file.h"
#include "common/messages.h"
#include "worker/collective/collective.h"

namespace plateau {

struct JoinOptions {
  std::string coordinator;  // "tcp://HOST:PORT"
  std::string token_file;   // holds the coordinator's join token; empty: kTokenVariable of rank 0's environment does
  std::string job;          // the job to go on with; empty: a new one
  int64_t answer_bound_ms = 60'000;
};

// Collective, before anything else asks the coordinator. `spec` is rank 0's: the specification as JSON, read on rank 0 only. The
// answer, or the error, is the same on every rank: kNotFound for the token file, kInvalidInput for an empty one, kConflict with the
// coordinator's reason when it refuses, kUnavailable when it does not answer.
Result<Registered> JoinCoordinator(FileSystem& files, Collective& collective, const JoinOptions& options,
                                   const Result<std::string>& spec);

}  // namespace plateau
