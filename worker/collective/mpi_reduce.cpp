// All-reduce of floats over MPI: halving and doubling for powers of two, a ring otherwise.
#include "worker/collective/mpi_reduce.h"

#include <bit>

#include <fmt/format.h>

#include "common/check.h"

namespace plateau {
namespace {

// Turns of one exchange each: the first half adds what it receives, the second half copies it. Subclasses say what goes where.
class TurnReduce : public PendingReduce {
 public:
  TurnReduce(const ReduceGroup& group, int tag, ScratchPool& pool, size_t scratch_floats, int adding_turns)
      : group_(group), tag_(tag), pool_(pool), adding_turns_(adding_turns) {
    if (!pool_.empty()) {
      scratch_ = std::move(pool_.back());
      pool_.pop_back();
    }
    if (scratch_.size() < scratch_floats) scratch_.resize(scratch_floats);
  }
  ~TurnReduce() override { pool_.push_back(std::move(scratch_)); }

  bool Test() override {
    while (turn_ < 2 * adding_turns_) {
      int done = 0;
      CheckMpi(MPI_Testall(2, requests_, &done, MPI_STATUSES_IGNORE), "all-reduce", group_.rank);
      if (!done) return false;
      if (turn_ < adding_turns_) AddReceived();
      ++turn_;
      Post();
    }
    return true;
  }
  void Wait() override {
    PatientWait::Until([this] { return Test(); });
  }

 protected:
  struct Exchange {
    std::span<float> out, in;
    int to = 0, from = 0;
  };
  virtual Exchange Turn(int turn) = 0;

  void Post() {
    if (turn_ >= 2 * adding_turns_) return;
    const Exchange exchange = Turn(turn_);
    incoming_ = exchange.in;
    float* target = turn_ < adding_turns_ ? scratch_.data() : exchange.in.data();
    CheckMpi(MPI_Irecv(target, static_cast<int>(exchange.in.size()), MPI_FLOAT, exchange.from, tag_, group_.comm, &requests_[0]),
             "receive", group_.rank);
    CheckMpi(MPI_Isend(exchange.out.data(), static_cast<int>(exchange.out.size()), MPI_FLOAT, exchange.to, tag_, group_.comm,
                       &requests_[1]),
             "send", group_.rank);
  }

  ReduceGroup group_;

 private:
  void AddReceived() {
    float* __restrict own = incoming_.data();
    const float* __restrict other = scratch_.data();
    const size_t count = incoming_.size();
#pragma omp simd
    for (size_t i = 0; i < count; ++i) own[i] += other[i];
  }

  int tag_;
  ScratchPool& pool_;
  std::vector<float> scratch_;
  std::span<float> incoming_;
  int adding_turns_;
  int turn_ = 0;
  MPI_Request requests_[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};
};

class RingReduce final : public TurnReduce {
 public:
  RingReduce(const ReduceGroup& group, int tag, std::span<float> values, ScratchPool& pool)
      : TurnReduce(group, tag, pool, values.size() / static_cast<size_t>(group.world_size) + 1, group.world_size - 1),
        values_(values) {
    Post();
  }

 private:
  Exchange Turn(int turn) override {
    const int rank = group_.rank, world = group_.world_size;
    const int back =
        turn < world - 1 ? turn : turn - world;  // parts that were completed begin their round with the one after the rank
    return {Part(rank - back), Part(rank - back - 1), (rank + 1) % world, (rank + world - 1) % world};
  }
  std::span<float> Part(int index) const {
    const auto world = static_cast<size_t>(group_.world_size);
    const auto part = static_cast<size_t>(((index % group_.world_size) + group_.world_size) % group_.world_size);
    const size_t begin = values_.size() * part / world;
    return values_.subspan(begin, values_.size() * (part + 1) / world - begin);
  }

  std::span<float> values_;
};

class HalvingReduce final : public TurnReduce {
 public:
  HalvingReduce(const ReduceGroup& group, int tag, std::span<float> values, ScratchPool& pool)
      : TurnReduce(group, tag, pool, values.size() / 2 + 1, Levels(group)) {
    for (int level = 0; level < Levels(group); ++level) {
      const size_t half = values.size() / 2;
      const std::span<float> low = values.first(half), high = values.subspan(half);
      const bool upper = (group.rank >> level & 1) != 0;
      kept_.push_back(upper ? high : low);
      given_.push_back(upper ? low : high);
      values = kept_.back();
    }
    Post();
  }

 private:
  static int Levels(const ReduceGroup& group) { return std::countr_zero(static_cast<unsigned>(group.world_size)); }
  Exchange Turn(int turn) override {
    const int levels = Levels(group_);
    const bool adding = turn < levels;
    const auto level = static_cast<size_t>(adding ? turn : 2 * levels - 1 - turn);
    const int partner = group_.rank ^ (1 << level);
    if (adding) return {given_[level], kept_[level], partner, partner};
    return {kept_[level], given_[level], partner, partner};
  }

  std::vector<std::span<float>> kept_, given_;  // by level
};

}  // namespace

std::unique_ptr<PendingReduce> StartReduce(const ReduceGroup& group, int tag, std::span<float> values, ScratchPool& pool) {
  PLATEAU_CHECK(values.size() < size_t{1} << 31, "{} values in one all-reduce", values.size());
  if (std::has_single_bit(static_cast<unsigned>(group.world_size)))
    return std::make_unique<HalvingReduce>(group, tag, values, pool);
  return std::make_unique<RingReduce>(group, tag, values, pool);
}

void CheckMpi(int code, const char* what, int rank) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw Failure(ErrorCode::kUnavailable,
                fmt::format("rank {}: {} failed: {}; look into the logs of the other ranks for the first fault", rank, what, text));
}

}  // namespace plateau
