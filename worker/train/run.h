// `plateau-worker train`: one rank's whole life, from joining the group to its exit code.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace plateau {

struct TrainOptions {
  std::string spec_path;
  std::string resume = "auto";                                // "auto", "none", or a checkpoint folder
  std::vector<std::pair<std::string, std::string>> settings;  // --set field=value
  bool force = false;
  std::string coordinator, job;  // empty without a coordinator
  // 0: with a coordinator this run registers itself as a job (or as an attempt of `job`), else it takes the next free number.
  int attempt = 0;
  std::string join_token_file;   // for that; empty: the environment has the token
  std::string token;             // of the attempt; empty: from the environment
  std::string trace;             // --trace FILE
};

// Exit code: 0 finished or stopped on command, 2 bad input, 3 NAN_LOSS, 1 otherwise. Prints errors once, on rank 0.
int RunTrain(const TrainOptions& options);

}  // namespace plateau
