// The Pulse shows each blocking collective call while it lasts, numbered alike whatever the calls are.
#include "worker/train/watched_collective.h"

#include <cstdlib>
#include <vector>

#include <gtest/gtest.h>

namespace plateau {
namespace {

// Notes what the Pulse shows in the middle of each call.
class Probe final : public Collective {
 public:
  explicit Probe(const Pulse& pulse) : pulse_(pulse) {}
  int rank() const override { return 0; }
  int world_size() const override { return 1; }
  std::unique_ptr<PendingReduce> StartAllReduceSum(std::span<float>) override { return std::make_unique<Reduce>(*this); }
  void AllReduceSum(std::span<float>) override { Note(); }
  void AllReduceSum(std::span<double>) override { Note(); }
  void AllReduceSum(std::span<int64_t>) override { Note(); }
  void Broadcast(std::span<char>, int) override { Note(); }
  std::string BroadcastText(const std::string& text, int) override {
    Note();
    return text;
  }
  void Barrier() override { Note(); }
  [[noreturn]] void Abort(int exit_code) override { std::exit(exit_code); }

  std::vector<int64_t> seen;

 private:
  struct Reduce final : PendingReduce {
    explicit Reduce(Probe& probe) : probe(probe) {}
    bool Test() override { return false; }
    void Wait() override { probe.Note(); }
    Probe& probe;
  };
  void Note() { seen.push_back(pulse_.collective); }
  const Pulse& pulse_;
};

TEST(WatchedCollective, EveryBlockingCallIsNumberedShownAndCounted) {
  Pulse pulse;
  Probe probe(pulse);
  WatchedCollective collective(probe, pulse);
  std::vector<float> floats(2);
  std::vector<double> doubles(2);
  std::vector<int64_t> counts(2);
  std::vector<char> bytes(2);
  collective.AllReduceSum(std::span<float>(floats));
  collective.AllReduceSum(std::span<double>(doubles));
  collective.AllReduceSum(std::span<int64_t>(counts));
  collective.Broadcast(bytes, 0);
  EXPECT_EQ(collective.BroadcastText("text", 0), "text");
  collective.Barrier();
  EXPECT_EQ(probe.seen, (std::vector<int64_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(pulse.collective, 0);
  EXPECT_EQ(pulse.progress, 6);
}

TEST(WatchedCollective, AStartedReductionIsShownOnlyWhileItIsWaitedFor) {
  Pulse pulse;
  Probe probe(pulse);
  WatchedCollective collective(probe, pulse);
  std::vector<float> values(2);
  const auto first = collective.StartAllReduceSum(values), second = collective.StartAllReduceSum(values);
  EXPECT_EQ(pulse.collective, 0);
  EXPECT_FALSE(first->Test());
  EXPECT_EQ(pulse.progress, 0);
  second->Wait();
  first->Wait();
  EXPECT_EQ(probe.seen, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(pulse.progress, 2);
}

class SeenTrainer final : public Trainer {
 public:
  explicit SeenTrainer(Pulse& pulse) : pulse_(pulse) {}
  int depth() const override { return 1; }
  void Enqueue(const StepInput&) override { enqueue_seen = pulse_.collective; }
  StepResult Settle() override {
    settle_seen = pulse_.collective;
    return {.totals = {.images = 7}};
  }
  int64_t enqueue_seen = -1, settle_seen = -1;

 private:
  Pulse& pulse_;
};

TEST(WatchedTrainer, ItsWaitIsNumberedAmongTheCollectiveCalls) {
  Pulse pulse;
  Probe probe(pulse);
  WatchedCollective collective(probe, pulse);
  SeenTrainer seen(pulse);
  WatchedTrainer trainer(seen, collective);
  collective.Barrier();
  trainer.Enqueue({});
  EXPECT_EQ(seen.enqueue_seen, 0);
  EXPECT_EQ(trainer.Settle().totals.images, 7);
  EXPECT_EQ(seen.settle_seen, 2);
  EXPECT_EQ(pulse.collective, 0);
  collective.Barrier();
  EXPECT_EQ(probe.seen, (std::vector<int64_t>{1, 3}));
}

}  // namespace
}  // namespace plateau
