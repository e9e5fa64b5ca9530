// The collective of one process: every sum is the value itself.
#pragma once

#include "worker/collective/collective.h"

namespace plateau {

// Rank 0 of 1. Never blocks, never fails.
class SingleCollective final : public Collective {
 public:
  int rank() const override { return 0; }
  int world_size() const override { return 1; }
  std::unique_ptr<PendingReduce> StartAllReduceSum(std::span<float> values) override;
  void AllReduceSum(std::span<float>) override {}
  void AllReduceSum(std::span<double>) override {}
  void AllReduceSum(std::span<int64_t>) override {}
  void Broadcast(std::span<char>, int) override {}
  std::string BroadcastText(const std::string& text, int) override { return text; }
  void Barrier() override {}
  [[noreturn]] void Abort(int exit_code) override;
};

}  // namespace plateau
