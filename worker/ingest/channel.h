// Questions of an ingest worker's thread to the coordinator, one at a time, each repeated until it is answered.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/ingest_messages.h"
#include "worker/ingest/stop_signal.h"

namespace plateau {

struct ChannelOptions {
  std::string address;            // "tcp://127.0.0.1:7081"
  int64_t repeat_ms = 2'000;      // an unanswered question is asked again, with the same request number
  int64_t patience_ms = 600'000;  // without any answer for this long the coordinator is given up
};

// Made and used by one thread. Losing the coordinator and finding it again are each logged once.
class IngestChannel {
 public:
  // kInvalidInput: the address is none.
  static Result<std::unique_ptr<IngestChannel>> Open(const ChannelOptions& options, const IngestSender& sender,
                                                     const StopSignal& stop);
  virtual ~IngestChannel() = default;

  // Blocks until the answer comes. kUnavailable: `stop` was raised, or the patience is over. kInvalidInput: the coordinator refuses
  // this worker, and why. `worker` speaks for another thread of this process; empty: for its own.
  virtual Result<IngestReply> Ask(const IngestMessage& message, const std::string& worker = {}) = 0;
  // The same when the worker is leaving: `stop` does not matter, but it waits for at most `bound_ms`.
  virtual Result<IngestReply> AskBounded(const IngestMessage& message, int64_t bound_ms) = 0;
};

}  // namespace plateau
