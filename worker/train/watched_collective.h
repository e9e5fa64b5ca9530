// A collective that shows in the Pulse when its rank waits for the others.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "worker/collective/collective.h"
#include "worker/nn/trainer.h"
#include "worker/train/pulse.h"

namespace plateau {

// Passes everything on; each blocking call is numbered and shown. Borrows both. Training thread only, as the collective itself.
class WatchedCollective final : public Collective {
 public:
  WatchedCollective(Collective& inner, Pulse& pulse) : inner_(inner), pulse_(pulse) {}

  int rank() const override { return inner_.rank(); }
  int world_size() const override { return inner_.world_size(); }
  std::unique_ptr<PendingReduce> StartAllReduceSum(std::span<float> values) override;
  void AllReduceSum(std::span<float> values) override;
  void AllReduceSum(std::span<double> values) override;
  void AllReduceSum(std::span<int64_t> values) override;
  void Broadcast(std::span<char> bytes, int root) override;
  std::string BroadcastText(const std::string& text, int root) override;
  void Barrier() override;
  void Finish() override { inner_.Finish(); }
  [[noreturn]] void Abort(int exit_code) override;
  // For a wait for the other ranks that no call of this collective makes: numbered and shown while the answer lives.
  InCollective Waiting() { return InCollective(pulse_, Next()); }

 private:
  class Reduce;
  int64_t Next() { return ++calls_; }

  Collective& inner_;
  Pulse& pulse_;
  int64_t calls_ = 0;
};

// A trainer whose steps settle late, as the Pulse shows it: ranks whose devices sum among themselves wait for each other there. Borrows
// both.
class WatchedTrainer final : public Trainer {
 public:
  WatchedTrainer(Trainer& inner, WatchedCollective& world) : inner_(inner), world_(world) {}
  int depth() const override { return inner_.depth(); }
  void Enqueue(const StepInput& input) override { inner_.Enqueue(input); }
  StepResult Settle() override;
  std::vector<std::string> algorithms() const override { return inner_.algorithms(); }

 private:
  Trainer& inner_;
  WatchedCollective& world_;
};

}  // namespace plateau
