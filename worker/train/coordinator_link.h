// A rank's line to the coordinator: heartbeats, reports and questions over one ZeroMQ DEALER, served by a thread of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/error.h"
#include "common/messages.h"
#include "worker/train/pulse.h"

namespace plateau {

struct LinkOptions {
  std::string address;  // "tcp://127.0.0.1:7081"
  std::string job, token;
  int attempt = 1;
  int rank = 0;
  int heartbeat_ms = 1000;
  int repeat_ms = 2000;  // an unanswered question or report is sent again, with the same request number
};

// Thread-safe. Messages are tried again for as long as the coordinator is away; training goes on meanwhile. Losing it and finding
// it again are each logged once.
class CoordinatorLink {
 public:
  // `on_refused` runs on the link's thread when the coordinator says that this attempt is not current: the process must leave at
  // once.
  static Result<std::unique_ptr<CoordinatorLink>> Open(const LinkOptions& options, const Pulse& pulse, StopFlag& stop,
                                                       std::function<void(const std::string& reason)> on_refused);
  virtual ~CoordinatorLink() = default;  // ends the thread; messages not yet sent get at most two seconds

  // Sent once, dropped when the coordinator is away.
  virtual void Send(const Metrics& metrics) = 0;
  // Blocks until the decision comes. kUnavailable when a stop was asked for meanwhile.
  virtual Result<LrDecision> Ask(const ValidationReport& report) = 0;
  // Number of the newest order to write a checkpoint, 0 none so far.
  virtual int64_t CheckpointOrder() const = 0;
  // Repeated until it is acknowledged; does not block.
  virtual void Report(const CheckpointReport& report) = 0;
  // Sent when every report before it is acknowledged: it is the last thing that the coordinator hears. Blocks until it is
  // acknowledged too, at most `bound_ms`: kUnavailable afterwards.
  virtual Status Finish(const Finished& finished, int64_t bound_ms) = 0;
  // Sent once; waits at most a second for the message to leave.
  virtual void Fail(const Failed& failed) = 0;
};

}  // namespace plateau
