// NCCL's communicator of a job: one rank a device, made through the job's Collective, left by aborting.
#pragma once

#include <nccl.h>

#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "worker/backend/cuda/bounded_wait.h"
#include "worker/backend/cuda/device_reducer_sum.h"
#include "worker/collective/collective.h"
#include "worker/nn/start_watch.h"

namespace plateau::cuda {

struct NcclOptions {
  int device = 0;
  // Sums of every size by one algorithm and protocol, as the process has named them at its start (worker/collective/nccl_environment.h).
  bool deterministic = true;
  StartWatch* watch = nullptr;      // borrowed for the join, which it may end
  int64_t join_bound_ms = 120'000;  // until every rank has joined
  int64_t call_bound_ms = 120'000;  // until NCCL has taken a call
  int64_t leave_bound_ms = 10'000;  // until NCCL has given up
  int64_t look_every_ms = 200;      // at NCCL's asynchronous errors, while the host waits for a step
};

// Training thread only. Faults throw Failure (kUnavailable) that names this rank, its host and NCCL's words; the communicator is then
// being aborted, so that nothing of it keeps the device busy. NCCL ends that only when graphs that captured its sums are gone: the
// destructor waits for it, with a bound.
class NcclGroup {
 public:
  // Collective; borrows `collective` for this call only. NCCL's call does not block and is looked after with a bound, and all ranks ask
  // each other how far they are: one that does not come, fails, or is asked to stop (kConflict, see StartStopped) ends the wait of all.
  static Result<std::unique_ptr<NcclGroup>> Join(Collective& collective, const NcclOptions& options);
  // Aborts: a destructor does not communicate. Every rank has waited for its last sum by then, or the run is lost.
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  // Queues in-place sums over ranks on `stream`, as one piece.
  void AllReduceSum(std::span<const Stretch> stretches, cudaStream_t stream);
  // Blocks until `done`, watching for errors that NCCL finds meanwhile, such as a rank that died.
  void Wait(const Event& done);
  // "NCCL 2.28.9 Ring Simple"
  std::string description() const;

 private:
  // How many ranks have joined, failed, are late and want to stop.
  struct JoinVotes {
    int64_t joined = 0, failed = 0, late = 0, stopped = 0;
    bool undecided(int ranks) const { return joined < ranks && failed + late + stopped == 0; }
  };
  NcclGroup(int rank, const NcclOptions& options);
  JoinVotes JoinTogether(Collective& collective, const ncclUniqueId& id, const StartStretch& stretch, std::string& fault);
  std::optional<ncclResult_t> LookAtJoin(int64_t bound_ms) const;
  std::optional<std::string> Fault(ncclResult_t code, const char* what) const;
  std::optional<std::string> WaitUntilTaken(ncclResult_t code, const char* what, int64_t bound_ms) const;
  void Taken(ncclResult_t code, const char* what);
  void BeginAbort();

  int rank_;
  std::string host_;
  NcclOptions options_;
  ncclComm_t comm_ = nullptr;
  std::future<ncclResult_t> left_;  // of an abort that was begun
  BoundedWait wait_;
};

}  // namespace plateau::cuda
