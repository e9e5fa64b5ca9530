// NCCL on the host: the ranks are threads of one process, each with a device of its own; sums run in the order of ranks.
//
// Each collective is one operation that stands behind what every rank has queued before its part, and in front of what they queue behind
// it; it is ready once all ranks have queued theirs. So whichever rank waits moves the others' streams too, as devices would.
#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <vector>

#include <fmt/format.h>

#include "tests/support/cuda/numbers.h"
#include "tests/support/cuda/stream.h"

namespace plateau::emulated {
namespace {

constexpr auto kJoinDeadline = std::chrono::seconds(60);  // ranks of other processes would never come

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

// Worlds that ranks are still joining, by unique id. Under the lock.
std::map<std::string, std::shared_ptr<World>>& Joining() {
  static auto* const joining = new std::map<std::string, std::shared_ptr<World>>;
  return *joining;
}

thread_local int group_depth = 0;
thread_local std::vector<std::shared_ptr<World>> joined_in_group;
thread_local std::string last_error;

ncclResult_t Fail(ncclResult_t code, std::string text) {
  last_error = std::move(text);
  return code;
}

int Fault(const char* function) {
  const Lock lock(TheSystem().mutex);
  return TakeFault(function);
}

size_t TypeBytes(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8: return 1;
    case ncclBfloat16: return 2;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64: return 8;
    default: return 4;
  }
}

// What a test planned for one of the ranks, or what went wrong among them. Under the lock.
ncclResult_t ErrorOf(const World& world) {
  for (const auto& [rank, status] : TheSystem().rank_faults)
    if (rank < static_cast<int>(world.devices.size())) return static_cast<ncclResult_t>(status);
  return world.error;
}

template <class T>
T Combine(T a, T b, ncclRedOp_t operation) {
  switch (operation) {
    case ncclProd: return a * b;
    case ncclMax: return std::max(a, b);
    case ncclMin: return std::min(a, b);
    default: return a + b;
  }
}

template <class T>
void ReduceAs(const Collective& collective) {
  const Part& first = collective.parts.front();
  std::vector<T> sum(first.count);
  std::memcpy(sum.data(), first.send, first.count * sizeof(T));
  std::vector<T> next(first.count);
  for (size_t rank = 1; rank < collective.parts.size(); ++rank) {
    std::memcpy(next.data(), collective.parts[rank].send, first.count * sizeof(T));
    for (size_t i = 0; i < first.count; ++i) sum[i] = Combine(sum[i], next[i], first.operation);
  }
  if (first.operation == ncclAvg)
    for (T& value : sum) value /= static_cast<T>(collective.parts.size());
  for (const Part& part : collective.parts) std::memcpy(part.receive, sum.data(), first.count * sizeof(T));
}

void ReduceBf16(const Collective& collective) {
  const Part& first = collective.parts.front();
  for (size_t i = 0; i < first.count; ++i) {
    const auto at = static_cast<int64_t>(i);
    float sum = LoadBf16(first.send, at);
    for (size_t rank = 1; rank < collective.parts.size(); ++rank)
      sum = RoundToBf16(Combine(sum, LoadBf16(collective.parts[rank].send, at), first.operation));
    for (const Part& part : collective.parts) StoreBf16(part.receive, at, sum);
  }
}

void Reduce(const Collective& collective) {
  switch (collective.parts.front().type) {
    case ncclBfloat16: return ReduceBf16(collective);
    case ncclFloat64: return ReduceAs<double>(collective);
    case ncclInt32: return ReduceAs<int32_t>(collective);
    case ncclInt64: return ReduceAs<int64_t>(collective);
    case ncclUint64: return ReduceAs<uint64_t>(collective);
    default: return ReduceAs<float>(collective);
  }
}

size_t ReceivedBytes(const Part& part, size_t ranks) {
  return part.count * TypeBytes(part.type) * (part.kind == Kind::kAllGather ? ranks : 1);
}

void Poison(const Collective& collective) {
  for (const Part& part : collective.parts)
    if (part.receive != nullptr) std::memset(part.receive, 0xFF, ReceivedBytes(part, collective.parts.size()));
}

void RunCollective(const Collective& collective) {
  const Part& first = collective.parts.front();
  const size_t bytes = first.count * TypeBytes(first.type);
  switch (first.kind) {
    case Kind::kAllReduce: return Reduce(collective);
    case Kind::kBroadcast: {
      const Part& root = collective.parts[static_cast<size_t>(first.root)];
      for (const Part& part : collective.parts) std::memmove(part.receive, root.send, bytes);
      return;
    }
    case Kind::kAllGather: {
      std::vector<char> all;
      for (const Part& part : collective.parts) all.insert(all.end(), static_cast<const char*>(part.send), static_cast<const char*>(part.send) + bytes);
      for (const Part& part : collective.parts) std::memcpy(part.receive, all.data(), all.size());
      return;
    }
  }
}

bool Agree(const Collective& collective) {
  const Part& first = collective.parts.front();
  return std::all_of(collective.parts.begin(), collective.parts.end(), [&](const Part& part) {
    return part.kind == first.kind && part.count == first.count && part.type == first.type && part.root == first.root &&
           part.operation == first.operation;
  });
}

std::shared_ptr<Collective> MakeCollective(const std::shared_ptr<World>& world, int64_t number, int device) {
  auto collective = std::make_shared<Collective>();
  collective->parts.resize(world->devices.size());
  collective->operation = std::make_shared<Operation>();
  collective->operation->device = device;
  const std::weak_ptr<Collective> weak = collective;
  collective->operation->ready = [world, weak] {
    const auto held = weak.lock();
    return world->aborted || (held != nullptr && held->arrived == held->parts.size() && ErrorOf(*world) == ncclSuccess);
  };
  collective->operation->run = [world, collective, number] {
    bool sound = false;
    {
      const Lock lock(TheSystem().mutex);
      sound = !world->aborted && Agree(*collective);
      if (!sound && !world->aborted) world->error = ncclInvalidUsage;  // the ranks called different things
      world->collectives.erase(number);
    }
    sound ? RunCollective(*collective) : Poison(*collective);
  };
  return collective;
}

// Takes part in the member's next collective with an operation that is about to be queued.
void Join(const std::shared_ptr<Member>& member, const Part& part, const OperationPtr& operation) {
  const int64_t number = member->next++;
  auto& collective = member->world->collectives[number];
  if (collective == nullptr) collective = MakeCollective(member->world, number, member->device);
  collective->parts[static_cast<size_t>(member->rank)] = part;
  ++collective->arrived;
  auto& before = collective->operation->before;
  before.insert(before.end(), operation->before.begin(), operation->before.end());
  operation->before = {collective->operation};
  TheSystem().changed.notify_all();
}

}  // namespace
}  // namespace plateau::emulated

using namespace plateau::emulated;  // NOLINT: this file is the library's side of its C functions

struct ncclComm {
  std::shared_ptr<Member> member;
};

namespace plateau::emulated {
namespace {

// Waits until all ranks of the world are there.
ncclResult_t AwaitRanks(Lock& lock, const std::shared_ptr<World>& world) {
  const bool complete = TheSystem().changed.wait_for(
      lock, kJoinDeadline, [&] { return world->joined == world->devices.size() || world->error != ncclSuccess; });
  if (!complete) return Fail(ncclSystemError, "not all ranks came: the emulation joins threads of one process only");
  if (world->error != ncclSuccess) return Fail(world->error, "two ranks are on one device");
  return ncclSuccess;
}

ncclResult_t JoinWorld(ncclComm_t* comm, int ranks, const ncclUniqueId& id, int rank, bool blocking) {
  if (comm == nullptr || ranks < 1 || rank < 0 || rank >= ranks) return Fail(ncclInvalidArgument, "no such rank");
  Lock lock(TheSystem().mutex);
  const std::string name(id.internal, sizeof(id.internal));
  auto& joining = Joining()[name];
  if (joining == nullptr) {
    joining = std::make_shared<World>();
    joining->devices.assign(static_cast<size_t>(ranks), -1);
  }
  const std::shared_ptr<World> world = joining;
  if (world->devices.size() != static_cast<size_t>(ranks) || world->devices[static_cast<size_t>(rank)] != -1)
    return Fail(ncclInvalidArgument, fmt::format("rank {} has joined already, or the ranks disagree about their number", rank));
  const int device = CurrentDevice();
  if (std::find(world->devices.begin(), world->devices.end(), device) != world->devices.end()) world->error = ncclInvalidUsage;
  world->devices[static_cast<size_t>(rank)] = device;
  if (++world->joined == world->devices.size()) Joining().erase(name);
  TheSystem().changed.notify_all();
  *comm = new ncclComm{std::make_shared<Member>(Member{world, rank, device, 0})};
  if (!blocking) return ncclInProgress;
  if (group_depth > 0) {
    joined_in_group.push_back(world);
    return ncclSuccess;
  }
  const ncclResult_t answer = AwaitRanks(lock, world);
  if (answer == ncclSuccess) return answer;
  delete *comm;
  *comm = nullptr;
  return answer;
}

ncclResult_t CheckBuffer(const void* data, size_t bytes, int device, const char* name) {
  const Allocation* const found = FindAllocation(data, bytes);
  if (bytes == 0 || (found != nullptr && found->device == device)) return ncclSuccess;
  return Fail(ncclInvalidArgument, fmt::format("{} is not {} bytes of device {}", name, bytes, device));
}

ncclResult_t QueueCollective(const char* function, ncclComm_t comm, const Part& part, cudaStream_t stream) {
  if (const int fault = Fault(function)) return Fail(static_cast<ncclResult_t>(fault), "a fault that the test asked for");
  if (comm == nullptr) return Fail(ncclInvalidArgument, "the communicator is null");
  const std::shared_ptr<Member> member = comm->member;
  const size_t bytes = part.count * TypeBytes(part.type);
  {
    const Lock lock(TheSystem().mutex);
    if (member->world->aborted) return Fail(ncclInvalidUsage, "the communicator was aborted");
    if (member->world->joined != member->world->devices.size()) return Fail(ncclInvalidUsage, "the communicator is not initialised yet");
    if (const ncclResult_t wrong = CheckBuffer(part.receive, ReceivedBytes(part, member->world->devices.size()), member->device, "the target"))
      return wrong;
    const bool sends = part.kind != Kind::kBroadcast || part.root == member->rank;
    if (const ncclResult_t wrong = sends ? CheckBuffer(part.send, bytes, member->device, "the source") : ncclSuccess) return wrong;
    const CUstream_st* const found = Find(stream);
    if (found == nullptr || found->device != member->device) return Fail(ncclInvalidUsage, "the stream is of another device");
  }
  if (part.count == 0) return ncclSuccess;
  const cudaError_t queued = Queue(stream, Work{nullptr, [member, part](const OperationPtr& operation) { Join(member, part, operation); }});
  return queued == cudaSuccess ? ncclSuccess : Fail(ncclUnhandledCudaError, fmt::format("cudaError {}", static_cast<int>(queued)));
}

}  // namespace
}  // namespace plateau::emulated

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (const int fault = Fault("ncclGetUniqueId")) return static_cast<ncclResult_t>(fault);
  static int64_t made = 0;
  const Lock lock(TheSystem().mutex);
  std::memset(id, 0, sizeof(*id));
  ++made;
  std::memcpy(id->internal, &made, sizeof(made));
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) {
  if (const int fault = Fault("ncclCommInitRank")) return Fail(static_cast<ncclResult_t>(fault), "a fault that the test asked for");
  return JoinWorld(comm, ranks, id, rank, true);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (const int fault = Fault("ncclCommInitRankConfig")) return Fail(static_cast<ncclResult_t>(fault), "a fault that the test asked for");
  if (config != nullptr && (config->size != sizeof(*config) || config->magic != 0xcafebeef))
    return Fail(ncclInvalidArgument, "the configuration was not initialised by NCCL_CONFIG_INITIALIZER");
  return JoinWorld(comm, ranks, id, rank, config == nullptr || config->blocking != 0);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  if (const int fault = Fault("ncclCommGetAsyncError")) return static_cast<ncclResult_t>(fault);
  const Lock lock(TheSystem().mutex);
  const World& world = *comm->member->world;
  *error = ErrorOf(world);
  if (*error == ncclSuccess && world.joined != world.devices.size()) *error = ncclInProgress;
  return ncclSuccess;
}

// Operations of the communicator end, with garbage in their targets.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  {
    const Lock lock(TheSystem().mutex);
    World& world = *comm->member->world;
    world.aborted = true;
    if (world.error == ncclSuccess) world.error = ncclRemoteError;
    TheSystem().changed.notify_all();
  }
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t) { return ncclSuccess; }

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
  *count = static_cast<int>(comm->member->world->devices.size());
  return ncclSuccess;
}
ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
  *rank = comm->member->rank;
  return ncclSuccess;
}
ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int* device) {
  *device = comm->member->device;
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}

// Waits for the ranks of communicators that were made inside.
ncclResult_t ncclGroupEnd() {
  if (group_depth == 0) return Fail(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
  if (--group_depth > 0) return ncclSuccess;
  ncclResult_t answer = ncclSuccess;
  for (const auto& world : std::exchange(joined_in_group, {})) {
    Lock lock(TheSystem().mutex);
    const ncclResult_t one = AwaitRanks(lock, world);
    if (answer == ncclSuccess) answer = one;
  }
  return answer;
}

ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t operation, ncclComm_t comm,
                           cudaStream_t stream) {
  return QueueCollective("ncclAllReduce", comm, {send, receive, Kind::kAllReduce, count, type, 0, operation}, stream);
}

ncclResult_t ncclBroadcast(const void* send, void* receive, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
  return QueueCollective("ncclBroadcast", comm, {send, receive, Kind::kBroadcast, count, type, root, ncclSum}, stream);
}

ncclResult_t ncclBcast(void* data, size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream) {
  return ncclBroadcast(data, data, count, type, root, comm, stream);
}

ncclResult_t ncclAllGather(const void* send, void* receive, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream) {
  return QueueCollective("ncclAllGather", comm, {send, receive, Kind::kAllGather, count, type, 0, ncclSum}, stream);
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error";
    case ncclSystemError: return "unhandled system error";
    case ncclInternalError: return "internal error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "remote process exited or there was a network error";
    case ncclInProgress: return "NCCL operation in progress";
    default: return "unknown result code";
  }
}

const char* ncclGetLastError(ncclComm_t) { return last_error.c_str(); }
