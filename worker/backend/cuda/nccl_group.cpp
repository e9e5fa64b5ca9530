// Joining, summing and leaving NCCL's communicator.
#include "worker/backend/cuda/nccl_group.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "common/check.h"
#include "common/log.h"
#include "worker/collective/nccl_environment.h"
#include "worker/collective/patient_wait.h"

namespace plateau::cuda {
namespace {

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "unknown host";
}

std::string Setting(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

constexpr int64_t kAskEveryMs = 100;  // the other ranks, while NCCL joins
constexpr const char* kJoining = "joining NCCL";
constexpr const char* kJoin = "ncclCommInitRankConfig";

using Clock = std::chrono::steady_clock;

std::string NotInTime(const char* what, int64_t bound_ms) {
  return fmt::format("NCCL: {} has not come to an end within {} s: another rank is missing or cannot be reached", what,
                     bound_ms / 1000);
}

}  // namespace

NcclGroup::NcclGroup(int rank, const NcclOptions& options)
    : rank_(rank), host_(HostName()), options_(options), wait_(options.device) {}

Result<std::unique_ptr<NcclGroup>> NcclGroup::Join(Collective& collective, const NcclOptions& options) {
  PLATEAU_CHECK(!options.deterministic || NcclAlgorithmIsFixed(), "{}",
                "this program does not name NCCL's algorithm before it starts threads");
  const int rank = collective.rank(), ranks = collective.world_size();
  std::unique_ptr<NcclGroup> group(new NcclGroup(rank, options));
  struct {
    ncclUniqueId id;
    ncclResult_t code = ncclSuccess;
  } ticket;
  if (rank == 0) ticket.code = ncclGetUniqueId(&ticket.id);
  collective.Broadcast({reinterpret_cast<char*>(&ticket), sizeof(ticket)}, 0);
  if (ticket.code != ncclSuccess)
    return Fail(ErrorCode::kUnavailable, "rank 0 cannot begin an NCCL communicator: {}; see its log with NCCL_DEBUG=WARN, or use "
                "resources.collective: mpi", ncclGetErrorString(ticket.code));
  const StartStretch stretch(options.watch, kJoining);
  if (rank == 0) LogInfo("{} with {} ranks", kJoining, ranks);
  const auto begin = Clock::now();
  std::string fault;
  const JoinVotes votes = group->JoinTogether(collective, ticket.id, stretch, fault);
  if (votes.joined == ranks) {
    if (rank == 0) LogInfo("joined in {:.1f} s", std::chrono::duration<double>(Clock::now() - begin).count());
    return group;
  }
  group->BeginAbort();
  if (votes.stopped > 0) return Fail(StartStopped(kJoining).code(), "{}", StartStopped(kJoining).what());
  return Fail(ErrorCode::kUnavailable,
              "rank {} (host {}): {}; {} of {} ranks could not join NCCL: see their logs with NCCL_DEBUG=WARN, or use "
              "resources.collective: mpi",
              rank, group->host_, fault, votes.failed + votes.late, ranks);
}

// Asks all ranks again and again: where one cannot join, NCCL would keep the others waiting. `fault` becomes what this rank knows.
NcclGroup::JoinVotes NcclGroup::JoinTogether(Collective& collective, const ncclUniqueId& id, const StartStretch& stretch,
                                             std::string& fault) {
  const int ranks = collective.world_size();
  const auto bound = Clock::now() + std::chrono::milliseconds(options_.join_bound_ms);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  std::optional<ncclResult_t> state;  // nothing while NCCL is joining
  if (const cudaError_t set = cudaSetDevice(options_.device); set != cudaSuccess) {
    state = ncclUnhandledCudaError;
    fault = fmt::format("cudaSetDevice: {}", cudaGetErrorString(set));
  } else if (const ncclResult_t code = ncclCommInitRankConfig(&comm_, ranks, id, rank_, &config); code != ncclInProgress) {
    state = code;
  }
  JoinVotes votes;
  bool late = false;
  while (votes.undecided(ranks)) {
    if (!state) state = LookAtJoin(kAskEveryMs);
    late = !state && Clock::now() > bound;
    std::array<int64_t, 4> counts{state == ncclSuccess, state && state != ncclSuccess, late, stretch.stopped()};
    collective.AllReduceSum(std::span<int64_t>(counts));
    votes = {counts[0], counts[1], counts[2], counts[3]};
  }
  if (!state) fault = late ? NotInTime(kJoin, options_.join_bound_ms) : "was still joining";
  if (state == ncclSuccess) fault = "has joined";
  if (fault.empty()) fault = Fault(*state, kJoin).value_or("");
  return votes;
}

// What joining came to, if it has within the bound.
std::optional<ncclResult_t> NcclGroup::LookAtJoin(int64_t bound_ms) const {
  const auto bound = Clock::now() + std::chrono::milliseconds(bound_ms);
  ncclResult_t state = ncclInProgress;
  PatientWait::Until([&] {
    const ncclResult_t code = ncclCommGetAsyncError(comm_, &state);
    if (code != ncclSuccess) state = code;
    return state != ncclInProgress || Clock::now() > bound;
  });
  if (state == ncclInProgress) return {};
  return state;
}

NcclGroup::~NcclGroup() {
  BeginAbort();
  if (left_.valid() && left_.wait_for(std::chrono::milliseconds(options_.leave_bound_ms)) != std::future_status::ready)
    LogWarning("rank {} (host {}): NCCL has not given up its communicator within {} s; it is left behind", rank_, host_,
               options_.leave_bound_ms / 1000);
}

void NcclGroup::AllReduceSum(std::span<const Stretch> stretches, cudaStream_t stream) {
  Taken(ncclGroupStart(), "ncclGroupStart");
  for (const Stretch& stretch : stretches) {
    const ncclResult_t code = ncclAllReduce(stretch.values, stretch.values, static_cast<size_t>(stretch.count), ncclFloat, ncclSum,
                                            comm_, stream);
    if (code != ncclSuccess && code != ncclInProgress) Taken(code, "ncclAllReduce");
  }
  Taken(ncclGroupEnd(), "ncclGroupEnd");
}

// Also looks when the event is done: a communicator that another rank aborted may let its sums end, with garbage.
void NcclGroup::Wait(const Event& done) {
  for (bool ended = false; !ended;) {
    ended = wait_.Until(done, options_.look_every_ms);
    ncclResult_t state = ncclSuccess;
    const ncclResult_t code = ncclCommGetAsyncError(comm_, &state);
    if (code != ncclSuccess) Taken(code, "ncclCommGetAsyncError");
    if (state != ncclSuccess && state != ncclInProgress) Taken(state, "a sum over ranks");
  }
}

std::string NcclGroup::description() const {
  int version = 0;
  ncclGetVersion(&version);
  std::string text = fmt::format("NCCL {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
  for (const char* name : {"NCCL_ALGO", "NCCL_PROTO"})
    if (const std::string value = Setting(name); !value.empty()) text += " " + value;
  return text;
}

std::optional<std::string> NcclGroup::Fault(ncclResult_t code, const char* what) const {
  if (code == ncclSuccess) return {};
  const char* detail = ncclGetLastError(comm_);  // which NCCL also knows without a communicator
  return fmt::format("NCCL: {}: {}{}{}", what, ncclGetErrorString(code), detail != nullptr && *detail != '\0' ? ": " : "",
                     detail != nullptr ? detail : "");
}

// A call to a communicator that does not block may still be under way when it returns.
std::optional<std::string> NcclGroup::WaitUntilTaken(ncclResult_t code, const char* what, int64_t bound_ms) const {
  if (code != ncclInProgress) return Fault(code, what);
  const auto bound = Clock::now() + std::chrono::milliseconds(bound_ms);
  ncclResult_t state = ncclInProgress;
  bool late = false;
  PatientWait::Until([&] {
    code = ncclCommGetAsyncError(comm_, &state);
    late = Clock::now() > bound;
    return code != ncclSuccess || state != ncclInProgress || late;
  });
  if (code != ncclSuccess) return Fault(code, what);
  if (state == ncclInProgress) return NotInTime(what, bound_ms);
  return Fault(state, what);
}

void NcclGroup::Taken(ncclResult_t code, const char* what) {
  const auto fault = WaitUntilTaken(code, what, options_.call_bound_ms);
  if (!fault) return;
  BeginAbort();
  throw Failure(
      ErrorCode::kUnavailable,
      fmt::format("rank {} (host {}): {}; the first rank that failed says more in its log (NCCL_DEBUG=WARN), the run goes on from "
                  "its newest checkpoint",
                  rank_, host_, *fault));
}

// On a thread of its own, which is left behind where NCCL hangs in leaving as in anything else.
void NcclGroup::BeginAbort() {
  if (comm_ == nullptr) return;
  std::packaged_task<ncclResult_t()> leave([comm = std::exchange(comm_, nullptr), device = options_.device] {
    cudaSetDevice(device);
    return ncclCommAbort(comm);
  });
  left_ = leave.get_future();
  std::thread(std::move(leave)).detach();
}

}  // namespace plateau::cuda
