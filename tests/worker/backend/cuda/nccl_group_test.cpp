// NCCL's communicator over the devices of one machine, a thread a rank: sums, captures, waits.
#include "worker/backend/cuda/nccl_group.h"

#include <cmath>
#include <vector>

#include <gmock/gmock.h>

#include "tests/support/cuda_device.h"
#include "tests/support/thread_collective.h"
#include "worker/backend/cuda/cuda_trainer_graph.h"

namespace plateau::cuda {
namespace {

using ::testing::HasSubstr;

class NcclGroupTest : public testing::Test {
 protected:
  void SetUp() override { SkipWithoutDevice(2); }
};

std::unique_ptr<NcclGroup> Join(Collective& collective) {
  Check(cudaSetDevice(collective.rank()), "cudaSetDevice");
  auto group = NcclGroup::Join(collective, {.device = collective.rank()});
  if (!group) throw Failure(group.error().code, group.error().message);
  return std::move(*group);
}

// Values of a rank, small whole numbers: their sums are exact in any order.
std::vector<float> Values(int rank, size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>((i * 7 + static_cast<size_t>(rank) * 3) % 64);
  return values;
}

TEST_F(NcclGroupTest, StretchesAreSummedInPlaceOnTheirStreamAlsoFromAGraph) {
  constexpr size_t kCount = 1000, kSmall = 8;
  test::RunThreadRanks(2, [&](Collective& collective) {
    auto group = Join(collective);
    EXPECT_THAT(group->description(), HasSubstr("NCCL 2."));
    Stream stream;
    Event done;
    DeviceBuffer memory((kCount + kSmall) * sizeof(float));
    const auto mine = Values(collective.rank(), kCount + kSmall);
    const Stretch stretches[] = {{memory.as<float>(), kCount}, {memory.as<float>() + kCount, kSmall}};
    StepGraph graph;
    for (int turn = 0; turn < 3; ++turn) {
      CopyToDevice(memory.data(), mine.data(), memory.bytes(), stream.get());
      if (turn == 0) {
        group->AllReduceSum(stretches, stream.get());
      } else {
        if (graph.empty()) graph.Capture(stream, [&] { group->AllReduceSum(stretches, stream.get()); });
        graph.Launch(stream);
      }
      done.Record(stream.get());
      group->Wait(done);
      std::vector<float> sums(kCount + kSmall);
      CopyToHost(sums.data(), memory.data(), memory.bytes(), stream.get());
      stream.Wait();
      const auto other = Values(1 - collective.rank(), kCount + kSmall);
      for (size_t i = 0; i < sums.size(); ++i) ASSERT_EQ(sums[i], mine[i] + other[i]) << i << " in turn " << turn;
    }
    collective.Barrier();
  });
}

TEST(BoundedWait, ReturnsAfterTheBoundAndAgainWhenTheEventIsDone) {
  SkipWithoutDevice();
  if (testing::Test::IsSkipped()) return;
  Check(cudaSetDevice(0), "cudaSetDevice");
  struct Gate {
    std::mutex mutex;
    std::condition_variable opened;
    bool open = false;
  } gate;
  Stream stream;
  Event done;
  BoundedWait wait(0);
  const auto hold = [](void* at) {
    auto& held = *static_cast<Gate*>(at);
    std::unique_lock lock(held.mutex);
    held.opened.wait(lock, [&] { return held.open; });
  };
  Check(cudaLaunchHostFunc(stream.get(), hold, &gate), "cudaLaunchHostFunc");
  done.Record(stream.get());
  EXPECT_FALSE(wait.Until(done, 20)) << "the stream is held";
  {
    const std::lock_guard lock(gate.mutex);
    gate.open = true;
  }
  gate.opened.notify_all();
  EXPECT_TRUE(wait.Until(done, 60'000));
  done.Record(stream.get());
  EXPECT_TRUE(wait.Until(done, 60'000)) << "the next one";
}

}  // namespace
}  // namespace plateau::cuda
