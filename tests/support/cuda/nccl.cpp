// NCCL on the host: the ranks are threads of one process, each with a device of its own; sums run in the order of ranks.
#include <nccl.h>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include <fmt/format.h>

#include "tests/support/cuda/nccl_world.h"
#include "tests/support/cuda/stream.h"

namespace plateau::emulated {
namespace {

constexpr auto kJoinDeadline = std::chrono::seconds(60);    // a thread that does not come
constexpr auto kGraphsDeadline = std::chrono::seconds(60);  // graphs that nobody destroys; the real one waits without an end

// What a unique id holds. Real ones let processes find each other; here ranks are threads of the process that made it.
struct Id {
  int64_t process = 0, number = 0;
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

}  // namespace
}  // namespace plateau::emulated

using namespace plateau::emulated;  // NOLINT: this file is the library's side of its C functions

struct ncclComm {
  std::shared_ptr<Member> member;
};

namespace plateau::emulated {
namespace {

// Under the lock.
void End(ncclComm_t comm) {
  --TheSystem().communicators;
  delete comm;
}

// Waits until all ranks of the world are there.
ncclResult_t AwaitRanks(Lock& lock, const std::shared_ptr<World>& world) {
  const bool complete = TheSystem().changed.wait_for(
      lock, kJoinDeadline, [&] { return world->joined == world->devices.size() || world->error != ncclSuccess; });
  if (!complete) return Fail(ncclSystemError, "not all ranks came");
  if (world->error != ncclSuccess) return Fail(world->error, "two ranks are on one device");
  return ncclSuccess;
}

ncclResult_t JoinWorld(ncclComm_t* comm, int ranks, const ncclUniqueId& id, int rank, bool blocking) {
  if (comm == nullptr || ranks < 1 || rank < 0 || rank >= ranks) return Fail(ncclInvalidArgument, "no such rank");
  Id made;
  std::memcpy(&made, id.internal, sizeof(made));
  if (made.process != ::getpid())
    return Fail(ncclInvalidUsage,
                fmt::format("the emulation joins threads of one process, and this id was made in process {}, not in {}: use "
                            "resources.collective: mpi",
                            made.process, ::getpid()));
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
  ++TheSystem().communicators;
  if (!blocking) return ncclInProgress;
  if (group_depth > 0) {
    joined_in_group.push_back(world);
    return ncclSuccess;
  }
  const ncclResult_t answer = AwaitRanks(lock, world);
  if (answer == ncclSuccess) return answer;
  End(*comm);
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
  const Id own{::getpid(), ++made};
  std::memcpy(id->internal, &own, sizeof(own));
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
  if (*error == ncclSuccess && (world.joined != world.devices.size() || TheSystem().joins_held)) *error = ncclInProgress;
  return ncclSuccess;
}

// Operations of the communicator end, with garbage in their targets. Then it waits, as the real one does, until no graph holds its
// collectives any more.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  Lock lock(TheSystem().mutex);
  World& world = *comm->member->world;
  world.aborted = true;
  if (world.error == ncclSuccess) world.error = ncclRemoteError;
  TheSystem().changed.notify_all();
  const bool free = TheSystem().changed.wait_for(lock, kGraphsDeadline, [&] { return comm->member.use_count() == 1; });
  End(comm);
  return free ? ncclSuccess : Fail(ncclInternalError, "a graph still holds sums of the communicator");
}

ncclResult_t ncclCommFinalize(ncclComm_t) { return ncclSuccess; }

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  const Lock lock(TheSystem().mutex);
  End(comm);
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
