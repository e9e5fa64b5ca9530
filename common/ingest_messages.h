// What ingest workers and the coordinator say to each other over the worker link: versioned JSON, one message a frame, told apart from
// the ranks' messages by their type. The prose page is coordinator/API.md, "Ingest workers".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "common/error.h"

namespace plateau {

inline constexpr int kIngestLinkVersion = 1;

// Stands in front of every message. One sender is one thread that builds shards, with a socket of its own.
struct IngestSender {
  std::string token;      // the coordinator's, from a file or the environment
  std::string worker;     // names this thread for good: host, pid, random digits and a thread number
  std::string host;
  int64_t pid = 0;
  std::string dataset;    // the only ingest it serves; empty: any
  int slot = 0;           // 1-based number among the workers that the coordinator launched for `dataset`; 0: started by hand
  int attempt = 0;        // of the slot
  uint64_t request = 0;   // counts up per sender; the reply repeats it, and a repeated question gets the same answer
};

// "Give me a shard." Answered by TaskGranted or NoTask, or by KeepWaiting and then by TaskGranted as soon as there is a shard; repeated
// every few seconds meanwhile.
struct AskTask {
  bool stay = false;  // wait also when there is no ingest at all
};

// About once a second for every lease; answered by LeaseHeld or LeaseOver.
struct RenewLease {
  std::string dataset;
  int64_t lease = 0;
  uint64_t images = 0;    // handled so far
  uint64_t rejected = 0;  // of these
};

// The shard lies complete in the lease's folder, with result.json; answered by ShardCommitted once it is in its place and recorded, or
// by LeaseOver.
struct ShardBuilt {
  std::string dataset;
  int64_t lease = 0;
  std::string checksum;     // XXH3-64 of result.json
  bool too_many_rejected = false;  // the build was ended: the split has more bad images than it may have; result.json lists them
};

// The shard cannot be built here; answered by LeaseOver.
struct BuildFailed {
  std::string dataset;
  int64_t lease = 0;
  std::string message;
};

// The worker is leaving before it is done; answered by LeaseOver.
struct ReturnLease {
  std::string dataset;
  int64_t lease = 0;
};

using IngestMessage = std::variant<AskTask, RenewLease, ShardBuilt, BuildFailed, ReturnLease>;

struct TaskGranted {
  std::string dataset;
  int64_t lease = 0;           // grows with every grant of the ingest, never used twice
  int64_t timeout_ms = 0;      // without a renewal for this long the shard is given to another
  uint64_t task = 0;           // number in the plan
  std::string shard;           // "train/00003"
  std::string folder;          // absolute; the lease's own: the shard is built in <folder>/shard
  std::string order;           // JSON of the ingest's order (dataset/ingest_order.h)
  std::string plan_checksum;   // XXH3-64 of the plan's text: the worker's own plan must have it
  uint64_t reject_limit = 0;   // bad images that the split may have
};
struct NoTask {};              // there is no unfinished ingest for this worker: leave
struct KeepWaiting {};         // another worker may still fail: ask on
struct LeaseHeld { int64_t lease = 0; };
struct LeaseOver {             // build no further, write nothing more outside the lease's folder, and remove that
  int64_t lease = 0;
  std::string reason;
};
struct ShardCommitted { int64_t lease = 0; };
struct IngestRefused { std::string reason; };  // wrong token or version: leave

using IngestReply = std::variant<TaskGranted, NoTask, KeepWaiting, LeaseHeld, LeaseOver, ShardCommitted, IngestRefused>;

// Cheap, for sorting messages before they are read in full.
bool IsIngestMessage(std::string_view text);
// JSON text <-> message. Another version, or a missing field, is an error naming it.
std::string EncodeIngestMessage(const IngestSender& sender, const IngestMessage& message);
Result<std::pair<IngestSender, IngestMessage>> DecodeIngestMessage(std::string_view text);
std::string EncodeIngestReply(uint64_t request, const IngestReply& reply);
Result<std::pair<uint64_t, IngestReply>> DecodeIngestReply(std::string_view text);

}  // namespace plateau
