// Communicators of the emulated NCCL as their ranks share them, and the collectives that are on their way.
//
// Each collective is one operation that stands behind what every rank has queued before its part, and in front of what they queue behind
// it; it is ready once all ranks have queued theirs. So whichever rank waits moves the others' streams too, as devices would.
#pragma once

#include <nccl.h>

#include <map>
#include <memory>
#include <vector>

#include "tests/support/cuda/system.h"

namespace plateau::emulated {

enum class Kind { kAllReduce, kBroadcast, kAllGather };

struct Part {
  const void* send = nullptr;
  void* receive = nullptr;
  Kind kind = Kind::kAllReduce;
  size_t count = 0;
  ncclDataType_t type = ncclFloat32;
  int root = 0;
  ncclRedOp_t operation = ncclSum;
};

struct Collective {
  std::vector<Part> parts;  // by rank
  size_t arrived = 0;
  OperationPtr operation;
};

// A communicator as all its ranks see it.
struct World {
  std::vector<int> devices;  // by rank, -1: has not joined
  size_t joined = 0;
  bool aborted = false;
  ncclResult_t error = ncclSuccess;
  std::map<int64_t, std::shared_ptr<Collective>> collectives;  // by their number, until they have run
};

struct Member {
  std::shared_ptr<World> world;
  int rank = 0, device = 0;
  int64_t next = 0;  // number of its next collective
};

size_t TypeBytes(ncclDataType_t type);
size_t ReceivedBytes(const Part& part, size_t ranks);

// ---- under the lock
// What a test planned for one of the ranks, or what went wrong among them.
ncclResult_t ErrorOf(const World& world);
// Takes part in the member's next collective with an operation that is about to be queued.
void Join(const std::shared_ptr<Member>& member, const Part& part, const OperationPtr& operation);

}  // namespace plateau::emulated
