// The twin of launch.h and the emulation's graphs: what is wrong on a device shows here too.
#include "tests/support/cuda/worker/backend/cuda/kernels/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "common/error.h"
#include "tests/support/cuda/emulation.h"

namespace plateau::cuda {
namespace {

using testing::Contains;
using testing::ElementsAre;

struct Number {
  int* out;
  void operator()(int64_t i) const { out[i] = static_cast<int>(i); }
};

// Each thread writes its own place in the first phase; in the second (or, wrongly, in the same one) it reads its neighbour's.
template <bool barrier>
struct Shift {
  struct Shared {
    int values[kBlockThreads];
  };
  static constexpr int kPhases = 2;
  int* out;
  template <int phase>
  void Run(int64_t block, int thread, Shared& shared) const {
    const int neighbour = (thread + 1) % kBlockThreads;
    if (phase == 0) shared.values[thread] = thread;
    if (phase == (barrier ? 1 : 0)) out[block * kBlockThreads + thread] = shared.values[neighbour];
  }
};

class LaunchTest : public testing::Test {
 protected:
  void SetUp() override { emulated::Reset(); }
  std::vector<int> Read(const DeviceBuffer& buffer) {
    std::vector<int> values(buffer.bytes() / sizeof(int));
    CopyToHost(values.data(), buffer.data(), buffer.bytes(), stream_.get());
    stream_.Wait();
    return values;
  }
  Stream stream_;
};

TEST_F(LaunchTest, EveryIndexRunsOnce) {
  const DeviceBuffer out(10000 * sizeof(int));
  LaunchEach(stream_.get(), 10000, Number{out.as<int>()});
  std::vector<int> expected(10000);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(Read(out), expected);
}

TEST_F(LaunchTest, KernelWaitsForSomebodyToWait) {
  const int64_t before = emulated::OperationsRun();
  LaunchEach(stream_.get(), 1, Number{nullptr});  // would fault
  EXPECT_EQ(emulated::OperationsRun(), before);
  emulated::Reset();
}

TEST_F(LaunchTest, PhaseSeesWhatTheOneBeforeItWrote) {
  const DeviceBuffer out(3 * kBlockThreads * sizeof(int));
  LaunchBlocks(stream_.get(), 3, Shift<true>{out.as<int>()});
  std::vector<int> expected;
  for (int i = 0; i < 3 * kBlockThreads; ++i) expected.push_back((i + 1) % kBlockThreads);
  EXPECT_EQ(Read(out), expected);
}

TEST_F(LaunchTest, MissingBarrierReadsPoison) {
  const DeviceBuffer out(kBlockThreads * sizeof(int));
  LaunchBlocks(stream_.get(), 1, Shift<false>{out.as<int>()});
  EXPECT_THAT(Read(out), Contains(-1));
}

TEST_F(LaunchTest, StreamOfAnotherDeviceIsRefused) {
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  EXPECT_THROW(LaunchEach(stream_.get(), 1, Number{nullptr}), Failure);
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
}

struct Note {
  std::vector<int>* notes;
  int number;
};

TEST_F(LaunchTest, GraphsRunInOtherOrdersThanTheyWereRecorded) {
  const Stream side;
  Event forked, joined;
  std::vector<int> notes;
  std::vector<Note> nodes{{&notes, 0}, {&notes, 1}, {&notes, 2}, {&notes, 3}};
  const auto add = [&](const Stream& stream, int number) {
    const auto write = [](void* user) {
      const auto* const note = static_cast<const Note*>(user);
      note->notes->push_back(note->number);
    };
    ASSERT_EQ(cudaLaunchHostFunc(stream.get(), write, &nodes[static_cast<size_t>(number)]), cudaSuccess);
  };
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
  add(stream_, 0);
  forked.Record(stream_.get());
  forked.Block(side.get());
  add(stream_, 1);
  add(side, 2);
  joined.Record(side.get());
  joined.Block(stream_.get());
  add(stream_, 3);
  ASSERT_EQ(cudaStreamEndCapture(stream_.get(), &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  EXPECT_TRUE(notes.empty());
  std::vector<std::vector<int>> orders;
  for (int launch = 0; launch < 2; ++launch) {
    notes.clear();
    ASSERT_EQ(cudaGraphLaunch(exec, stream_.get()), cudaSuccess);
    stream_.Wait();
    orders.push_back(notes);
  }
  EXPECT_THAT(orders, ElementsAre(ElementsAre(0, 2, 1, 3), ElementsAre(0, 1, 2, 3)));
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
}

}  // namespace
}  // namespace plateau::cuda
