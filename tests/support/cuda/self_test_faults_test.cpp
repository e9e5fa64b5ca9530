// A device that fails while the ranks of `doctor` sum: the rank says so, and nobody waits for it.
#include <gtest/gtest.h>

#include "common/log.h"
#include "tests/support/cuda/emulation.h"
#include "tests/support/thread_collective.h"
#include "worker/backend/cuda/self_test.h"
#include "worker/collective/nccl_environment.h"

namespace plateau::cuda {
namespace {

// What a process of two ranks comes to, with a device each or one for both, when `function` fails on the rank that calls it first.
void SumWhile(const char* function, bool apart) {
  FixNcclAlgorithm();
  InitLog("");  // stderr, which a death test reads
  emulated::Reset();
  emulated::FailCall(function, 1);
  test::RunThreadRanks(2, [apart](Collective& collective) {
    const auto line = SelfTestRanks(collective, apart ? collective.rank() : 0);
    ADD_FAILURE() << "rank " << collective.rank() << " came back: " << (line ? *line : line.error().message);
  });
}

TEST(SelfTestFaults, ARankThatFailsInsideTheSumSaysSoAndEndsAll) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  for (const bool apart : {false, true})
    EXPECT_EXIT(SumWhile("cudaEventRecord", apart), testing::ExitedWithCode(1),
                "rank ., device .: .*cudaEventRecord: .*all are ended here")
        << (apart ? "NCCL" : "MPI");
  EXPECT_EXIT(SumWhile("ncclAllReduce", true), testing::ExitedWithCode(1),
              "rank ., device .: rank .*NCCL: (ncclAllReduce|a sum over ranks): ")
      << "whichever rank's words are the first";
}

TEST(SelfTestFaults, ARankWithoutMemoryForTheSumEndsAllToo) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(SumWhile("cudaMallocHost", false), testing::ExitedWithCode(1), "rank ., device 0: .*all are ended here");
}

}  // namespace
}  // namespace plateau::cuda
