// What training asks of the other ranks: sums in buckets, exact counts, broadcasts. One implementation a folder file: single, mpi.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "common/error.h"

namespace plateau {

// A started all-reduce. Test() advances it (Open MPI has no progress thread: call it between layers) and says whether it is done;
// Wait() blocks. Faults throw Failure naming the rank.
class PendingReduce {
 public:
  virtual ~PendingReduce() = default;
  virtual bool Test() = 0;
  virtual void Wait() = 0;
};

// All ranks call the same functions in the same order. One thread at a time. Faults throw Failure.
// The sum of the same values on the same number of ranks has the same bits on every rank and in every run.
class Collective {
 public:
  virtual ~Collective() = default;
  virtual int rank() const = 0;
  virtual int world_size() const = 0;
  // Starts an in-place sum over ranks; `values` stays untouched by the caller until it is done.
  virtual std::unique_ptr<PendingReduce> StartAllReduceSum(std::span<float> values) = 0;
  virtual void AllReduceSum(std::span<float> values) = 0;
  virtual void AllReduceSum(std::span<double> values) = 0;
  virtual void AllReduceSum(std::span<int64_t> values) = 0;
  virtual void Broadcast(std::span<char> bytes, int root) = 0;
  virtual std::string BroadcastText(const std::string& text, int root) = 0;  // length first; `text` is read on root only
  virtual void Barrier() = 0;
  // Leaves the group in good order: the last call, made by every rank. Destructors never communicate.
  virtual void Finish() {}
  // Ends every rank of the job with this exit code; does not return.
  [[noreturn]] virtual void Abort(int exit_code) = 0;
};

}  // namespace plateau
