// The collective over MPI: a pipelined ring for buckets, small exact sums in rank order, patient waits.
#include "worker/collective/mpi.h"

#include <mpi.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <fmt/format.h>

#include "common/check.h"
#include "worker/collective/single.h"

namespace plateau {
namespace {

constexpr int kSpinPolls = 2000;          // polls before the core is offered to others
constexpr int kYieldPolls = 20000;        // polls before waits begin to sleep
constexpr long kSleepNs = 50'000;
constexpr size_t kBroadcastBytes = size_t{1} << 28;  // MPI counts are int: longer broadcasts go in parts
constexpr int kTags = 1 << 14;            // rings in flight at once are far fewer

void CheckMpi(int code, const char* what, int rank) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw Failure(ErrorCode::kUnavailable,
                fmt::format("rank {}: {} failed: {}; look into the logs of the other ranks for the first fault", rank, what, text));
}

// Polls until `done()` says so: first hot, then offering the core, then in short sleeps. Open MPI moves data only inside its calls, so
// there is no event to wait for.
template <typename Done>
void WaitPatiently(Done done) {
  for (int polls = 0; !done(); ++polls) {
    if (polls < kSpinPolls) continue;
    if (polls < kYieldPolls) {
      sched_yield();
      continue;
    }
    const timespec nap{0, kSleepNs};
    nanosleep(&nap, nullptr);
  }
}

void WaitFor(MPI_Request& request, const char* what, int rank) {
  WaitPatiently([&] {
    int done = 0;
    CheckMpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), what, rank);
    return done != 0;
  });
}

// Where part `index` of `count` equal parts of `size` values begins.
size_t PartBegin(size_t size, int count, int index) { return size * static_cast<size_t>(index) / static_cast<size_t>(count); }

// Scratch memory that rings borrow and give back, so that nothing is allocated after the first steps.
using ScratchPool = std::vector<std::vector<float>>;

// One ring all-reduce: world_size-1 turns that add, then world_size-1 turns that copy.
class RingReduce final : public PendingReduce {
 public:
  RingReduce(MPI_Comm comm, int rank, int world_size, int tag, std::span<float> values, ScratchPool& pool)
      : comm_(comm), rank_(rank), world_(world_size), tag_(tag), values_(values), pool_(pool) {
    if (!pool_.empty()) {
      scratch_ = std::move(pool_.back());
      pool_.pop_back();
    }
    const size_t largest = values_.size() / static_cast<size_t>(world_) + 1;
    if (scratch_.size() < largest) scratch_.resize(largest);
    Post();
  }
  ~RingReduce() override { pool_.push_back(std::move(scratch_)); }

  bool Test() override {
    while (turn_ < 2 * (world_ - 1)) {
      int done = 0;
      CheckMpi(MPI_Testall(2, requests_, &done, MPI_STATUSES_IGNORE), "all-reduce", rank_);
      if (!done) return false;
      if (turn_ < world_ - 1) AddReceived();
      ++turn_;
      Post();
    }
    return true;
  }
  void Wait() override {
    WaitPatiently([this] { return Test(); });
  }

 private:
  std::span<float> Part(int index) const {
    const int wrapped = ((index % world_) + world_) % world_;
    const size_t begin = PartBegin(values_.size(), world_, wrapped);
    return values_.subspan(begin, PartBegin(values_.size(), world_, wrapped + 1) - begin);
  }
  bool adding() const { return turn_ < world_ - 1; }
  std::span<float> Outgoing() const { return adding() ? Part(rank_ - turn_) : Part(rank_ + 1 - (turn_ - (world_ - 1))); }
  std::span<float> Incoming() const { return adding() ? Part(rank_ - turn_ - 1) : Part(rank_ - (turn_ - (world_ - 1))); }

  void Post() {
    if (turn_ >= 2 * (world_ - 1)) return;
    const std::span<float> out = Outgoing(), in = Incoming();
    float* target = adding() ? scratch_.data() : in.data();
    const int to = (rank_ + 1) % world_, from = (rank_ + world_ - 1) % world_;
    CheckMpi(MPI_Irecv(target, static_cast<int>(in.size()), MPI_FLOAT, from, tag_, comm_, &requests_[0]), "receive", rank_);
    CheckMpi(MPI_Isend(out.data(), static_cast<int>(out.size()), MPI_FLOAT, to, tag_, comm_, &requests_[1]), "send", rank_);
  }

  void AddReceived() {
    const std::span<float> in = Incoming();
    float* __restrict own = in.data();
    const float* __restrict other = scratch_.data();
    const size_t count = in.size();
#pragma omp simd
    for (size_t i = 0; i < count; ++i) own[i] += other[i];
  }

  MPI_Comm comm_;
  int rank_, world_, tag_;
  std::span<float> values_;
  ScratchPool& pool_;
  std::vector<float> scratch_;
  int turn_ = 0;
  MPI_Request requests_[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};
};

class MpiCollective final : public Collective {
 public:
  MpiCollective(int rank, int world_size, MPI_Comm rings) : rank_(rank), world_(world_size), rings_(rings) {}

  int rank() const override { return rank_; }
  int world_size() const override { return world_; }

  std::unique_ptr<PendingReduce> StartAllReduceSum(std::span<float> values) override {
    PLATEAU_CHECK(values.size() / static_cast<size_t>(world_) < size_t{1} << 30, "{} values in one all-reduce", values.size());
    next_tag_ = (next_tag_ + 1) % kTags;
    return std::make_unique<RingReduce>(rings_, rank_, world_, next_tag_, values, pool_);
  }
  void AllReduceSum(std::span<float> values) override { StartAllReduceSum(values)->Wait(); }
  void AllReduceSum(std::span<double> values) override { SumInRankOrder(values, MPI_DOUBLE); }
  void AllReduceSum(std::span<int64_t> values) override { SumInRankOrder(values, MPI_INT64_T); }

  void Broadcast(std::span<char> bytes, int root) override {
    for (size_t begin = 0; begin < bytes.size(); begin += kBroadcastBytes) {
      const size_t count = std::min(kBroadcastBytes, bytes.size() - begin);
      MPI_Request request;
      CheckMpi(MPI_Ibcast(bytes.data() + begin, static_cast<int>(count), MPI_BYTE, root, MPI_COMM_WORLD, &request), "broadcast", rank_);
      WaitFor(request, "broadcast", rank_);
    }
  }
  std::string BroadcastText(const std::string& text, int root) override {
    int64_t length = rank_ == root ? static_cast<int64_t>(text.size()) : 0;
    Broadcast({reinterpret_cast<char*>(&length), sizeof(length)}, root);
    std::string result = rank_ == root ? text : std::string(static_cast<size_t>(length), '\0');
    Broadcast(result, root);
    return result;
  }
  void Barrier() override {
    MPI_Request request;
    CheckMpi(MPI_Ibarrier(MPI_COMM_WORLD, &request), "barrier", rank_);
    WaitFor(request, "barrier", rank_);
  }
  void Finish() override {
    MPI_Comm_free(&rings_);
    MPI_Finalize();
  }
  [[noreturn]] void Abort(int exit_code) override {
    std::fflush(nullptr);
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::_Exit(exit_code);
  }

 private:
  // For a handful of values: gathered on rank 0, added in rank order, sent back. The order is fixed, whatever the library does.
  template <typename T>
  void SumInRankOrder(std::span<T> values, MPI_Datatype type) {
    const int count = static_cast<int>(values.size());
    std::vector<T> all(rank_ == 0 ? values.size() * static_cast<size_t>(world_) : 0);
    MPI_Request request;
    CheckMpi(MPI_Igather(values.data(), count, type, all.data(), count, type, 0, MPI_COMM_WORLD, &request), "gather", rank_);
    WaitFor(request, "gather", rank_);
    if (rank_ == 0) {
      std::fill(values.begin(), values.end(), T{});
      for (size_t i = 0; i < all.size(); ++i) values[i % values.size()] += all[i];
    }
    Broadcast({reinterpret_cast<char*>(values.data()), values.size_bytes()}, 0);
  }

  int rank_, world_;
  MPI_Comm rings_;       // of their own, so that bucket tags never meet anything else
  int next_tag_ = 0;
  ScratchPool pool_;
};

}  // namespace

bool LaunchedByMpi() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"})
    if (std::getenv(name) != nullptr) return true;
  return false;
}

Result<std::unique_ptr<Collective>> StartMpiCollective() {
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS || provided < MPI_THREAD_FUNNELED)
    return Fail(ErrorCode::kUnavailable, "MPI did not start; check the mpirun command and that all hosts use the same Open MPI");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  int rank = 0, world_size = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &world_size);
  MPI_Comm rings = MPI_COMM_NULL;
  if (MPI_Comm_dup(MPI_COMM_WORLD, &rings) != MPI_SUCCESS)
    return Fail(ErrorCode::kUnavailable, "rank {}: MPI_Comm_dup failed; look into the logs of the other ranks", rank);
  MPI_Comm_set_errhandler(rings, MPI_ERRORS_RETURN);
  return std::unique_ptr<Collective>(std::make_unique<MpiCollective>(rank, world_size, rings));
}

Result<std::unique_ptr<Collective>> StartCollective() {
  if (LaunchedByMpi()) return StartMpiCollective();
  return std::unique_ptr<Collective>(std::make_unique<SingleCollective>());
}

}  // namespace plateau
