// The harness of kernels on the host: the twin of worker/backend/cuda/kernels/launch.h. Bodies are queued on an emulated stream; the
// threads of a phase run one after the other in an order that is not theirs, in memory that was poisoned first, so that a race between
// them shows.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tests/support/cuda/stream.h"
#include "worker/backend/cuda/runtime.h"

namespace plateau::cuda {

inline constexpr int kBlockThreads = 256;

namespace launch_detail {

inline constexpr int64_t kParallelFrom = 4096;  // fewer bodies are not worth a team of threads
inline constexpr size_t kArgumentBytes = 4096;  // of a kernel
inline constexpr size_t kSharedBytes = 48 << 10;

template <class Body>
void RunEach(int64_t count, const Body& body) {
#pragma omp parallel for schedule(static) if (count >= kParallelFrom)
  for (int64_t i = 0; i < count; ++i) body(count - 1 - i);
}

template <class Body, int phase>
void RunPhases(const Body& body, int64_t block, typename Body::Shared& shared) {
  if constexpr (phase < Body::kPhases) {
    // Odd factors permute 0..255; another one each phase.
    for (int i = 0; i < kBlockThreads; ++i)
      body.template Run<phase>(block, (i * (2 * phase + 167) + 101) % kBlockThreads, shared);
    RunPhases<Body, phase + 1>(body, block, shared);
  }
}

template <class Body>
void RunBlocks(int64_t blocks, const Body& body) {
  using Shared = typename Body::Shared;
  static_assert(sizeof(Shared) <= kSharedBytes, "more memory of a block than a kernel has");
#pragma omp parallel for schedule(static) if (blocks > 1)
  for (int64_t i = 0; i < blocks; ++i) {
    alignas(Shared) unsigned char memory[sizeof(Shared)];
    std::memset(memory, 0xFF, sizeof(memory));
    RunPhases<Body, 0>(body, blocks - 1 - i, *reinterpret_cast<Shared*>(memory));
  }
}

template <class Body>
constexpr void CheckBody() {
  static_assert(std::is_trivially_copyable_v<Body>, "a kernel's arguments are copied as bytes");
  static_assert(sizeof(Body) + sizeof(int64_t) <= kArgumentBytes, "more than a kernel's arguments may hold");
}

}  // namespace launch_detail

template <class Body>
void LaunchEach(cudaStream_t stream, int64_t count, const Body& body) {
  launch_detail::CheckBody<Body>();
  if (count == 0) return;
  Check(emulated::QueueKernel(stream, [count, body] { launch_detail::RunEach(count, body); }), "kernel launch");
}

template <class Body>
void LaunchBlocks(cudaStream_t stream, int64_t blocks, const Body& body) {
  launch_detail::CheckBody<Body>();
  if (blocks == 0) return;
  Check(emulated::QueueKernel(stream, [blocks, body] { launch_detail::RunBlocks(blocks, body); }), "kernel launch");
}

}  // namespace plateau::cuda
