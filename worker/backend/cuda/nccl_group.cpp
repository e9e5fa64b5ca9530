// Joining, summing and leaving NCCL's communicator.
#include "worker/backend/cuda/nccl_group.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <future>
#include <thread>

#include "common/log.h"
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

// NCCL reads these when the first communicator is made; there is no other way to tell it.
void FixAlgorithm() {
  setenv("NCCL_ALGO", "Ring", 0);
  setenv("NCCL_PROTO", "Simple", 0);
}

}  // namespace

NcclGroup::NcclGroup(int rank, const NcclOptions& options)
    : rank_(rank), host_(HostName()), options_(options), wait_(options.device) {}

Result<std::unique_ptr<NcclGroup>> NcclGroup::Join(Collective& collective, const NcclOptions& options) {
  if (options.deterministic) FixAlgorithm();
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
  Check(cudaSetDevice(options.device), "cudaSetDevice");
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  const auto fault = group->WaitUntilTaken(ncclCommInitRankConfig(&group->comm_, ranks, ticket.id, rank, &config),
                                           "ncclCommInitRankConfig", options.join_bound_ms);
  if (fault) group->Abort();
  int64_t failed = fault ? 1 : 0;
  collective.AllReduceSum(std::span(&failed, 1));
  if (failed == 0) return group;
  return Fail(ErrorCode::kUnavailable, "{}; {} of {} ranks could not join NCCL: see their logs with NCCL_DEBUG=WARN, or use "
              "resources.collective: mpi", fault.value_or(fmt::format("rank {} (host {}) has joined", rank, group->host_)), failed, ranks);
}

NcclGroup::~NcclGroup() { Abort(); }

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
  const char* detail = comm_ == nullptr ? nullptr : ncclGetLastError(comm_);
  return fmt::format("rank {} (host {}): NCCL: {}: {}{}{}", rank_, host_, what, ncclGetErrorString(code),
                     detail != nullptr && *detail != '\0' ? ": " : "", detail != nullptr ? detail : "");
}

// A call to a communicator that does not block may still be under way when it returns.
std::optional<std::string> NcclGroup::WaitUntilTaken(ncclResult_t code, const char* what, int64_t bound_ms) const {
  if (code != ncclInProgress) return Fault(code, what);
  const auto bound = std::chrono::steady_clock::now() + std::chrono::milliseconds(bound_ms);
  ncclResult_t state = ncclInProgress;
  bool late = false;
  PatientWait::Until([&] {
    code = ncclCommGetAsyncError(comm_, &state);
    late = std::chrono::steady_clock::now() > bound;
    return code != ncclSuccess || state != ncclInProgress || late;
  });
  if (code != ncclSuccess) return Fault(code, what);
  if (state == ncclInProgress)
    return fmt::format("rank {} (host {}): NCCL: {} has not come to an end within {} s: another rank is missing or cannot be reached",
                       rank_, host_, what, bound_ms / 1000);
  return Fault(state, what);
}

void NcclGroup::Taken(ncclResult_t code, const char* what) {
  const auto fault = WaitUntilTaken(code, what, options_.call_bound_ms);
  if (!fault) return;
  Abort();
  throw Failure(ErrorCode::kUnavailable,
                *fault + "; the first rank that failed says more in its log (NCCL_DEBUG=WARN), the run goes on from its newest checkpoint");
}

// NCCL may hang in leaving as in anything else; its thread is then left behind.
void NcclGroup::Abort() {
  if (comm_ == nullptr) return;
  std::packaged_task<ncclResult_t()> leave([comm = std::exchange(comm_, nullptr), device = options_.device] {
    cudaSetDevice(device);
    return ncclCommAbort(comm);
  });
  std::future<ncclResult_t> left = leave.get_future();
  std::thread(std::move(leave)).detach();
  if (left.wait_for(std::chrono::milliseconds(options_.leave_bound_ms)) != std::future_status::ready)
    LogWarning("rank {} (host {}): NCCL has not given up its communicator within {} s; it is left behind", rank_, host_,
               options_.leave_bound_ms / 1000);
}

}  // namespace plateau::cuda
