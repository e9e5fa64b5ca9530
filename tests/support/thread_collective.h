// Ranks that are threads of one process: a Collective between them, and a way to run a function on each.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "common/check.h"
#include "worker/collective/collective.h"

namespace plateau::test {

// The meeting place of all ranks. A rank that waits longer than a minute for another throws Failure, so that a lost rank ends a test.
class ThreadWorld {
 public:
  explicit ThreadWorld(int ranks) : ranks_(ranks) {
    for (int rank = 0; rank < ranks; ++rank) members_.push_back(std::make_unique<Member>(*this, rank));
  }
  Collective& rank(int rank) { return *members_[static_cast<size_t>(rank)]; }

 private:
  // One collective call. Sums are formed in the order of ranks by the last one to arrive, and copied to all.
  struct Meeting {
    int arrived = 0;
    std::vector<std::span<char>> values;
    bool done = false;
  };
  using Combine = void (*)(std::vector<std::span<char>>& values, int root);

  template <class T>
  static void Sum(std::vector<std::span<char>>& values, int) {
    for (size_t i = 0; i < values[0].size() / sizeof(T); ++i) {
      T sum{};
      for (const auto& of_rank : values) {
        T value;
        std::memcpy(&value, of_rank.data() + i * sizeof(T), sizeof(T));
        sum += value;
      }
      for (const auto& of_rank : values) std::memcpy(of_rank.data() + i * sizeof(T), &sum, sizeof(T));
    }
  }
  static void Copy(std::vector<std::span<char>>& values, int root) {
    for (size_t rank = 0; rank < values.size(); ++rank)
      if (static_cast<int>(rank) != root && !values[rank].empty())
        std::memcpy(values[rank].data(), values[static_cast<size_t>(root)].data(), values[rank].size());
  }

  std::shared_ptr<Meeting> Arrive(int rank, int64_t call, std::span<char> values, Combine combine, int root) {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<Meeting>& meeting = meetings_[call];
    if (!meeting) meeting = std::make_shared<Meeting>(Meeting{.values = std::vector<std::span<char>>(static_cast<size_t>(ranks_))});
    const std::shared_ptr<Meeting> mine = meeting;
    mine->values[static_cast<size_t>(rank)] = values;
    if (++mine->arrived < ranks_) return mine;
    for (const auto& of_rank : mine->values)
      PLATEAU_CHECK(of_rank.size() == values.size(), "call {}: {} and {} bytes", call, of_rank.size(), values.size());
    combine(mine->values, root);
    mine->done = true;
    meetings_.erase(call);
    changed_.notify_all();
    return mine;
  }
  bool Done(const Meeting& meeting) {
    const std::lock_guard lock(mutex_);
    return meeting.done;
  }
  void Wait(const Meeting& meeting, int rank) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::minutes(1), [&] { return meeting.done; }))
      throw Failure(ErrorCode::kUnavailable, fmt::format("rank {}: another rank did not come", rank));
  }

  class Pending final : public PendingReduce {
   public:
    Pending(ThreadWorld& world, std::shared_ptr<Meeting> meeting, int rank)
        : world_(world), meeting_(std::move(meeting)), rank_(rank) {}
    bool Test() override { return world_.Done(*meeting_); }
    void Wait() override { world_.Wait(*meeting_, rank_); }

   private:
    ThreadWorld& world_;
    std::shared_ptr<Meeting> meeting_;
    int rank_;
  };

  class Member final : public Collective {
   public:
    Member(ThreadWorld& world, int rank) : world_(world), rank_(rank) {}
    int rank() const override { return rank_; }
    int world_size() const override { return world_.ranks_; }
    std::unique_ptr<PendingReduce> StartAllReduceSum(std::span<float> values) override {
      return std::make_unique<Pending>(world_, world_.Arrive(rank_, calls_++, Bytes(values), Sum<float>, 0), rank_);
    }
    void AllReduceSum(std::span<float> values) override { Meet(Bytes(values), Sum<float>, 0); }
    void AllReduceSum(std::span<double> values) override { Meet(Bytes(values), Sum<double>, 0); }
    void AllReduceSum(std::span<int64_t> values) override { Meet(Bytes(values), Sum<int64_t>, 0); }
    void Broadcast(std::span<char> bytes, int root) override { Meet(bytes, Copy, root); }
    std::string BroadcastText(const std::string& text, int root) override {
      uint64_t size = text.size();
      Meet({reinterpret_cast<char*>(&size), sizeof(size)}, Copy, root);
      std::string shared = rank_ == root ? text : std::string(size, '\0');
      Meet(shared, Copy, root);
      return shared;
    }
    void Barrier() override { Meet({}, Copy, 0); }
    [[noreturn]] void Abort(int exit_code) override { std::_Exit(exit_code); }

   private:
    template <class T>
    static std::span<char> Bytes(std::span<T> values) {
      return {reinterpret_cast<char*>(values.data()), values.size_bytes()};
    }
    void Meet(std::span<char> values, Combine combine, int root) {
      world_.Wait(*world_.Arrive(rank_, calls_++, values, combine, root), rank_);
    }
    ThreadWorld& world_;
    int rank_;
    int64_t calls_ = 0;
  };

  int ranks_;
  std::vector<std::unique_ptr<Member>> members_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int64_t, std::shared_ptr<Meeting>> meetings_;  // by number of the call, alike on all ranks
};

// Runs `of_rank(collective)` on a thread for each rank and waits for all; the first rank's exception is thrown on.
template <class OfRank>
void RunThreadRanks(int ranks, OfRank of_rank) {
  ThreadWorld world(ranks);
  std::vector<std::exception_ptr> faults(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      try {
        of_rank(world.rank(rank));
      } catch (...) {
        faults[static_cast<size_t>(rank)] = std::current_exception();
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& fault : faults)
    if (fault) std::rethrow_exception(fault);
}

}  // namespace plateau::test
