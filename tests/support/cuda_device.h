// Skips tests that need a CUDA device where none answers; the emulated build always has one, unless a test took it away.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "worker/collective/nccl_environment.h"

namespace plateau {

// As plateau-worker's main: before there are threads.
inline const bool kNcclFixed = (FixNcclAlgorithm(), true);

// To be called in SetUp, or as the last resort of a test body in front of everything else: the skip ends only the function it is in, so
// a body says `SkipWithoutDevice(); if (testing::Test::IsSkipped()) return;`.
inline void SkipWithoutDevice(int devices = 1) {
  int answering = 0;
  const cudaError_t code = cudaGetDeviceCount(&answering);
  cudaGetLastError();
  if (code != cudaSuccess) GTEST_SKIP() << "no CUDA device answers: " << cudaGetErrorString(code) << " (" << cudaGetErrorName(code) << ")";
  if (answering < devices) GTEST_SKIP() << "needs " << devices << " CUDA devices, " << answering << " answer";
}

// A fixture for tests that need a device.
class DeviceTest : public testing::Test {
 protected:
  void SetUp() override { SkipWithoutDevice(); }
};

}  // namespace plateau
