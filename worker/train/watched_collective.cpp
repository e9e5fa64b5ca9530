// A collective that shows in the Pulse when its rank waits for the others.
#include "worker/train/watched_collective.h"

#include <cstdlib>
#include <utility>

namespace plateau {

class WatchedCollective::Reduce final : public PendingReduce {
 public:
  Reduce(std::unique_ptr<PendingReduce> inner, Pulse& pulse, int64_t number)
      : inner_(std::move(inner)), pulse_(pulse), number_(number) {}
  bool Test() override { return inner_->Test(); }
  void Wait() override {
    const InCollective waiting(pulse_, number_);
    inner_->Wait();
  }

 private:
  std::unique_ptr<PendingReduce> inner_;
  Pulse& pulse_;
  int64_t number_;
};

std::unique_ptr<PendingReduce> WatchedCollective::StartAllReduceSum(std::span<float> values) {
  return std::make_unique<Reduce>(inner_.StartAllReduceSum(values), pulse_, Next());
}

void WatchedCollective::AllReduceSum(std::span<float> values) {
  const InCollective waiting(pulse_, Next());
  inner_.AllReduceSum(values);
}

void WatchedCollective::AllReduceSum(std::span<double> values) {
  const InCollective waiting(pulse_, Next());
  inner_.AllReduceSum(values);
}

void WatchedCollective::AllReduceSum(std::span<int64_t> values) {
  const InCollective waiting(pulse_, Next());
  inner_.AllReduceSum(values);
}

void WatchedCollective::Broadcast(std::span<char> bytes, int root) {
  const InCollective waiting(pulse_, Next());
  inner_.Broadcast(bytes, root);
}

std::string WatchedCollective::BroadcastText(const std::string& text, int root) {
  const InCollective waiting(pulse_, Next());
  return inner_.BroadcastText(text, root);
}

void WatchedCollective::Barrier() {
  const InCollective waiting(pulse_, Next());
  inner_.Barrier();
}

void WatchedCollective::Abort(int exit_code) {
  inner_.Abort(exit_code);
  std::_Exit(exit_code);  // not reached
}

StepResult WatchedTrainer::Settle() {
  const InCollective waiting = world_.Waiting();
  return inner_.Settle();
}

}  // namespace plateau
