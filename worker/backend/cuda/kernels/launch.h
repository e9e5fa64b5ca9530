// How kernels are written here: as bodies of plain C++ that a harness runs, on the device by this file, on the host by its twin in
// tests/support/cuda, so that every kernel's arithmetic is checked where there is no device.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "worker/backend/cuda/runtime.h"

namespace plateau::cuda {

inline constexpr int kBlockThreads = 256;

namespace launch_detail {

template <class Body>
__global__ void __launch_bounds__(kBlockThreads) Each(int64_t count, Body body) {
  const int64_t stride = int64_t{gridDim.x} * kBlockThreads;
  for (int64_t i = int64_t{blockIdx.x} * kBlockThreads + threadIdx.x; i < count; i += stride) body(i);
}

template <class Body, int phase>
__device__ void RunPhases(const Body& body, int64_t block, typename Body::Shared& shared) {
  if constexpr (phase < Body::kPhases) {
    if constexpr (phase > 0) __syncthreads();
    body.template Run<phase>(block, static_cast<int>(threadIdx.x), shared);
    RunPhases<Body, phase + 1>(body, block, shared);
  }
}

template <class Body>
__global__ void __launch_bounds__(kBlockThreads) Blocks(Body body) {
  __shared__ typename Body::Shared shared;
  RunPhases<Body, 0>(body, blockIdx.x, shared);
}

}  // namespace launch_detail

// body(i) for every i in [0, count), in any order: `__host__ __device__ void operator()(int64_t i) const`. The body is copied.
template <class Body>
void LaunchEach(cudaStream_t stream, int64_t count, const Body& body) {
  if (count == 0) return;
  const int64_t blocks = std::min<int64_t>((count + kBlockThreads - 1) / kBlockThreads, int64_t{1} << 16);
  launch_detail::Each<<<static_cast<unsigned>(blocks), kBlockThreads, 0, stream>>>(count, body);
  Check(cudaGetLastError(), "kernel launch");
}

// One block of kBlockThreads threads for each of `blocks`. A block runs in phases with a barrier between them: a body has
//   struct Shared (default constructible without an initialiser), memory of the block, not initialised
//   static constexpr int kPhases
//   template <int phase> __host__ __device__ void Run(int64_t block, int thread, Shared& shared) const
// Inside one phase threads must not read what others of the phase write.
template <class Body>
void LaunchBlocks(cudaStream_t stream, int64_t blocks, const Body& body) {
  if (blocks == 0) return;
  launch_detail::Blocks<<<static_cast<unsigned>(blocks), kBlockThreads, 0, stream>>>(body);
  Check(cudaGetLastError(), "kernel launch");
}

}  // namespace plateau::cuda
