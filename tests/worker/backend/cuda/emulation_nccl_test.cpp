// Sums over devices by NCCL, eager and in a graph: threads of one process are the ranks, on the emulation and on devices.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nccl.h>

#include <functional>
#include <thread>
#include <vector>

#include "tests/support/cuda_device.h"
#include "worker/backend/cuda/runtime.h"

namespace plateau::cuda {
namespace {

constexpr int kRanks = 2;
constexpr size_t kCount = 1000;

class NcclTest : public testing::Test {
 protected:
  void SetUp() override { SkipWithoutDevice(kRanks); }

  // Runs `body`(rank, communicator) on a thread a rank, each on its own device.
  static void OnRanks(const std::function<void(int, ncclComm_t)>& body) {
    ncclUniqueId id;
    ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
    std::vector<std::thread> threads;
    for (int rank = 0; rank < kRanks; ++rank)
      threads.emplace_back([&, rank] {
        ASSERT_EQ(cudaSetDevice(rank), cudaSuccess);
        ncclComm_t comm = nullptr;
        ASSERT_EQ(ncclCommInitRank(&comm, kRanks, id, rank), ncclSuccess);
        body(rank, comm);
        EXPECT_EQ(ncclCommDestroy(comm), ncclSuccess);
      });
    for (std::thread& thread : threads) thread.join();
  }

  static void Fill(const DeviceBuffer& buffer, float value, const Stream& stream) {
    const std::vector<float> values(kCount, value);
    CopyToDevice(buffer.data(), values.data(), buffer.bytes(), stream.get());
    stream.Wait();
  }
  static std::vector<float> Read(const DeviceBuffer& buffer, const Stream& stream) {
    std::vector<float> values(kCount);
    CopyToHost(values.data(), buffer.data(), buffer.bytes(), stream.get());
    stream.Wait();
    return values;
  }
};

TEST_F(NcclTest, EveryRankHasTheSumBehindWhatItQueuedBefore) {
  OnRanks([](int rank, ncclComm_t comm) {
    const Stream compute, reduce;
    const DeviceBuffer source(kCount * sizeof(float)), data(kCount * sizeof(float));
    Fill(source, static_cast<float>(rank + 1), compute);
    Event ready, done;
    ASSERT_EQ(cudaMemcpyAsync(data.data(), source.data(), data.bytes(), cudaMemcpyDeviceToDevice, compute.get()), cudaSuccess);
    ready.Record(compute.get());
    ready.Block(reduce.get());
    ASSERT_EQ(ncclAllReduce(data.data(), data.data(), kCount, ncclFloat, ncclSum, comm, reduce.get()), ncclSuccess);
    done.Record(reduce.get());
    done.Block(compute.get());
    EXPECT_THAT(Read(data, compute), testing::Each(3.0F));
  });
}

TEST_F(NcclTest, SumInAGraphIsMadeAnewAtEachLaunch) {
  OnRanks([](int rank, ncclComm_t comm) {
    const Stream stream;
    const DeviceBuffer source(kCount * sizeof(float)), sum(kCount * sizeof(float));
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    ASSERT_EQ(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
    ASSERT_EQ(ncclAllReduce(source.data(), sum.data(), kCount, ncclFloat, ncclSum, comm, stream.get()), ncclSuccess);
    ASSERT_EQ(cudaStreamEndCapture(stream.get(), &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    for (const int round : {1, 2, 3}) {
      Fill(source, static_cast<float>(round * (rank + 1)), stream);
      ASSERT_EQ(cudaGraphLaunch(exec, stream.get()), cudaSuccess);
      EXPECT_THAT(Read(sum, stream), testing::Each(3.0F * static_cast<float>(round)));
    }
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
  });
}

TEST_F(NcclTest, RootsValuesGoToEveryRank) {
  OnRanks([](int rank, ncclComm_t comm) {
    const Stream stream;
    const DeviceBuffer data(kCount * sizeof(float));
    Fill(data, static_cast<float>(rank + 5), stream);
    ASSERT_EQ(ncclBroadcast(data.data(), data.data(), kCount, ncclFloat, 1, comm, stream.get()), ncclSuccess);
    EXPECT_THAT(Read(data, stream), testing::Each(6.0F));
  });
}

}  // namespace
}  // namespace plateau::cuda
