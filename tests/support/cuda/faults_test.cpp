// What only the emulation can show: work that nobody waits for, planned faults, and memory that is not there.
#include <cublasLt.h>
#include <cudnn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nccl.h>

#include <barrier>
#include <thread>

#include "common/error.h"
#include "tests/support/cuda/emulation.h"
#include "tests/support/cuda_device.h"
#include "worker/backend/cuda/runtime.h"

namespace plateau::cuda {
namespace {

class EmulationTest : public testing::Test {
 protected:
  void SetUp() override { emulated::Reset(); }
  void TearDown() override { emulated::Reset(); }
};

TEST_F(EmulationTest, NothingRunsBeforeSomebodyWaits) {
  const Stream stream;
  const DeviceBuffer from(64);
  const PinnedBuffer to(64);
  ASSERT_EQ(cudaMemsetAsync(from.data(), 5, 64, stream.get()), cudaSuccess);
  CopyToHost(to.data(), from.data(), 64, stream.get());
  EXPECT_EQ(to.as<char>()[0], 0);
  stream.Wait();
  EXPECT_EQ(to.as<char>()[0], 5);
}

TEST_F(EmulationTest, MissingEventShowsAsStaleData) {
  const Stream producer, consumer;
  const DeviceBuffer data(64);
  const PinnedBuffer seen(64);
  ASSERT_EQ(cudaMemsetAsync(data.data(), 5, 64, producer.get()), cudaSuccess);
  CopyToHost(seen.data(), data.data(), 64, consumer.get());
  consumer.Wait();
  EXPECT_EQ(seen.as<char>()[0], 0);
}

TEST_F(EmulationTest, FreshMemoryIsPoisoned) {
  void* data = nullptr;
  ASSERT_EQ(cudaMalloc(&data, 64), cudaSuccess);
  unsigned char seen[64] = {};
  ASSERT_EQ(cudaMemcpy(seen, data, 64, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_THAT(seen, testing::Each(0xFF));
  cudaFree(data);
}

TEST_F(EmulationTest, CopyOverTheEndOfAnAllocationIsRefused) {
  const DeviceBuffer device(64);
  const PinnedBuffer host(128);
  EXPECT_EQ(cudaMemcpy(device.data(), host.data(), 65, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(device.data(), host.data(), 64, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
}

TEST_F(EmulationTest, MemoryEndsWhereTheTestSaysSo) {
  emulated::SetMemoryBytes(1 << 20);
  const DeviceBuffer half(1 << 19);
  EXPECT_THROW(DeviceBuffer((1 << 19) + 1), Failure);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(DeviceBuffer(1 << 19).bytes(), size_t{1} << 19);
}

TEST_F(EmulationTest, WithoutDevicesEveryLibrarySaysSo) {
  emulated::SetDeviceCount(0);
  int devices = -1;
  EXPECT_EQ(cudaGetDeviceCount(&devices), cudaErrorNoDevice);
  cudnnHandle_t cudnn = nullptr;
  EXPECT_EQ(cudnnCreate(&cudnn), CUDNN_STATUS_NOT_INITIALIZED);
  cublasLtHandle_t cublas = nullptr;
  EXPECT_EQ(cublasLtCreate(&cublas), CUBLAS_STATUS_NOT_INITIALIZED);
}

TEST_F(EmulationTest, PlannedFaultHitsTheCallItWasMeantFor) {
  emulated::FailCall("cudaMalloc", cudaErrorMemoryAllocation, 1);
  EXPECT_NO_THROW(DeviceBuffer{64});
  EXPECT_THROW(DeviceBuffer{64}, Failure);
  EXPECT_NO_THROW(DeviceBuffer{64});
}

TEST_F(EmulationTest, FailedDeviceFailsEveryLaterCall) {
  const Stream stream;
  const DeviceBuffer data(64);
  emulated::FailDevice(0, cudaErrorIllegalAddress);
  EXPECT_EQ(cudaMemsetAsync(data.data(), 5, 64, stream.get()), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaMemsetAsync(data.data(), 5, 64, stream.get()), cudaErrorIllegalAddress);
}

TEST_F(EmulationTest, HostWaitsAreCounted) {
  const Stream stream;
  const DeviceBuffer data(64);
  const int64_t before = emulated::HostWaits();
  ASSERT_EQ(cudaMemsetAsync(data.data(), 5, 64, stream.get()), cudaSuccess);
  EXPECT_EQ(emulated::HostWaits(), before);
  stream.Wait();
  EXPECT_EQ(emulated::HostWaits(), before + 1);
}

TEST_F(EmulationTest, PollSeesBothAnswers) {
  const Stream stream;
  const DeviceBuffer data(64);
  ASSERT_EQ(cudaMemsetAsync(data.data(), 5, 64, stream.get()), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(stream.get()), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamQuery(stream.get()), cudaSuccess);
}

TEST_F(EmulationTest, AllocationWhileACaptureIsUnderWayIsRefusedAndEndsIt) {
  const Stream stream;
  cudaGraph_t graph = nullptr;
  void* data = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeGlobal), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&data, 64), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamEndCapture(stream.get(), &graph), cudaErrorStreamCaptureInvalidated);
}

TEST_F(EmulationTest, TwoRanksOnOneDeviceAreRefused) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  ncclResult_t answers[2] = {};
  std::thread other([&] {
    ncclComm_t comm = nullptr;
    answers[1] = ncclCommInitRank(&comm, 2, id, 1);
  });
  ncclComm_t comm = nullptr;
  answers[0] = ncclCommInitRank(&comm, 2, id, 0);
  other.join();
  EXPECT_THAT(answers, testing::Each(ncclInvalidUsage));
}

TEST_F(EmulationTest, FailedRankShowsInEveryRankAndAbortEndsTheSum) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  std::barrier both(2);
  const auto rank = [&](int number) {
    ASSERT_EQ(cudaSetDevice(number), cudaSuccess);
    ncclComm_t comm = nullptr;
    ASSERT_EQ(ncclCommInitRank(&comm, 2, id, number), ncclSuccess);
    const Stream stream;
    const DeviceBuffer data(64);
    emulated::FailRank(1, ncclRemoteError);
    ASSERT_EQ(ncclAllReduce(data.data(), data.data(), 16, ncclFloat, ncclSum, comm, stream.get()), ncclSuccess);
    EXPECT_EQ(cudaStreamQuery(stream.get()), cudaErrorNotReady);
    EXPECT_EQ(cudaStreamQuery(stream.get()), cudaErrorNotReady);
    ncclResult_t error = ncclSuccess;
    ASSERT_EQ(ncclCommGetAsyncError(comm, &error), ncclSuccess);
    EXPECT_EQ(error, ncclRemoteError);
    both.arrive_and_wait();
    ASSERT_EQ(ncclCommAbort(comm), ncclSuccess);
    stream.Wait();
  };
  std::thread other(rank, 1);
  rank(0);
  other.join();
}

}  // namespace
}  // namespace plateau::cuda
