// What the emulation's runtime and a device's have in common: the order that streams, events and graphs promise.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "tests/support/cuda_device.h"
#include "worker/backend/cuda/runtime.h"

namespace plateau::cuda {
namespace {

constexpr size_t kBytes = 1 << 20;

class RuntimeTest : public DeviceTest {};

void Fill(const DeviceBuffer& buffer, int value, const Stream& stream) {
  ASSERT_EQ(cudaMemsetAsync(buffer.data(), value, buffer.bytes(), stream.get()), cudaSuccess);
}

void CopyOnDevice(const DeviceBuffer& to, const DeviceBuffer& from, const Stream& stream) {
  ASSERT_EQ(cudaMemcpyAsync(to.data(), from.data(), to.bytes(), cudaMemcpyDeviceToDevice, stream.get()), cudaSuccess);
}

int FirstByte(const DeviceBuffer& buffer, const Stream& stream) {
  const PinnedBuffer host(buffer.bytes());
  CopyToHost(host.data(), buffer.data(), buffer.bytes(), stream.get());
  stream.Wait();
  return host.as<unsigned char>()[0];
}

TEST_F(RuntimeTest, WorkOfAnotherStreamIsSeenBehindItsEvent) {
  const Stream producer, consumer;
  const DeviceBuffer source(kBytes), target(kBytes);
  Event ready;
  Fill(source, 7, producer);
  ready.Record(producer.get());
  ready.Block(consumer.get());
  CopyOnDevice(target, source, consumer);
  EXPECT_EQ(FirstByte(target, consumer), 7);
}

TEST_F(RuntimeTest, BufferIsZeroForAStreamThatDoesNotWaitForTheNullStream) {
  const Stream stream;
  EXPECT_EQ(FirstByte(DeviceBuffer(kBytes), stream), 0);
}

TEST_F(RuntimeTest, CopyOfRowsLeavesTheBytesBetweenThem) {
  const Stream stream;
  const DeviceBuffer device(8);
  const PinnedBuffer host(4);
  std::memcpy(host.data(), "abcd", 4);
  Fill(device, '.', stream);
  ASSERT_EQ(cudaMemcpy2DAsync(device.data(), 4, host.data(), 2, 2, 2, cudaMemcpyHostToDevice, stream.get()), cudaSuccess);
  std::array<char, 8> back{};
  CopyToHost(back.data(), device.data(), 8, stream.get());
  stream.Wait();
  EXPECT_THAT(back, testing::ElementsAreArray("ab..cd..", 8));
}

// A captured fork and join: both branches read what stood before the fork, the join reads both.
class GraphTest : public RuntimeTest {
 protected:
  void Record(const Stream& main, const Stream& side, bool join) {
    Event forked, joined;
    ASSERT_EQ(cudaStreamBeginCapture(main.get(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
    CopyOnDevice(middle_, source_, main);
    forked.Record(main.get());
    forked.Block(side.get());
    CopyOnDevice(right_, middle_, side);
    CopyOnDevice(left_, middle_, main);
    joined.Record(side.get());
    if (join) joined.Block(main.get());
    if (join) CopyOnDevice(target_, right_, main);
    ended_ = cudaStreamEndCapture(main.get(), &graph_);
  }
  void TearDown() override {
    if (exec_ != nullptr) cudaGraphExecDestroy(exec_);
    if (graph_ != nullptr) cudaGraphDestroy(graph_);
    cudaGetLastError();
  }
  DeviceBuffer source_, middle_, left_, right_, target_;
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t exec_ = nullptr;
  cudaError_t ended_ = cudaSuccess;
  void MakeBuffers() {
    for (DeviceBuffer* buffer : {&source_, &middle_, &left_, &right_, &target_}) *buffer = DeviceBuffer(kBytes);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
};

TEST_F(GraphTest, EveryReplayReadsWhatTheDeviceHoldsThen) {
  MakeBuffers();
  const Stream main, side;
  Record(main, side, true);
  ASSERT_EQ(ended_, cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec_, graph_, 0), cudaSuccess);
  for (const int value : {3, 5, 9}) {
    Fill(source_, value, main);
    ASSERT_EQ(cudaGraphLaunch(exec_, main.get()), cudaSuccess);
    EXPECT_EQ(FirstByte(target_, main), value);
    EXPECT_EQ(FirstByte(left_, main), value);
  }
}

TEST_F(GraphTest, CaptureWithABranchThatDoesNotComeBackIsRefused) {
  MakeBuffers();
  const Stream main, side;
  Record(main, side, false);
  EXPECT_EQ(ended_, cudaErrorStreamCaptureUnjoined);
}

TEST_F(GraphTest, WaitForACapturedStreamIsRefusedAndEndsTheCapture) {
  const Stream stream;
  ASSERT_EQ(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamEndCapture(stream.get(), &graph_), cudaErrorStreamCaptureInvalidated);
}

TEST_F(RuntimeTest, MoreMemoryThanTheDeviceHasIsRefusedAndForgotten) {
  size_t free_bytes = 0, total_bytes = 0;
  ASSERT_EQ(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
  void* data = nullptr;
  EXPECT_EQ(cudaMalloc(&data, total_bytes + 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(DeviceBuffer(kBytes).bytes(), kBytes);
}

}  // namespace
}  // namespace plateau::cuda
