// Following a job until it ends: events by long poll, a live view on a terminal, lines elsewhere.
#pragma once

#include <string>

#include "coordinator/cli/context.h"

namespace plateau {

struct FollowOptions {
  size_t old_events = 10;   // of the history before now, how many to show
  int64_t until_step = -1;  // following ends, with exit code 0, once the job is at this step; -1: never
  int reconnect_s = 60;     // how long a coordinator may be away before following ends
};

// Follows job `id` until it is COMPLETED, FAILED, CANCELLED or PAUSED and sets context.exit_code from how it ended. With
// context.json each event is one line of JSON and the last line is the job. Blocks; Ctrl-C leaves the job running and says how to
// watch again.
void FollowJob(CliContext& context, const std::string& id, const FollowOptions& options);

}  // namespace plateau
