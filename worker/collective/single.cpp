// The collective of one process.
#include "worker/collective/single.h"

#include <unistd.h>

#include <cstdio>

namespace plateau {
namespace {

class DoneReduce final : public PendingReduce {
 public:
  bool Test() override { return true; }
  void Wait() override {}
};

}  // namespace

std::unique_ptr<PendingReduce> SingleCollective::StartAllReduceSum(std::span<float>) { return std::make_unique<DoneReduce>(); }

void SingleCollective::Abort(int exit_code) {
  std::fflush(nullptr);
  ::_exit(exit_code);
}

}  // namespace plateau
