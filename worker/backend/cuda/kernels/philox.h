// The counter-based numbers of common/random.h where kernels draw them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/random.h"

namespace plateau::cuda {

struct Words4 {
  uint32_t word[4];
};

// Philox4x32-10, as plateau::Philox.
__host__ __device__ inline Words4 PhiloxWords(Words4 counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter.word[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter.word[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0, static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1, static_cast<uint32_t>(product0)}};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

// Words of block `block` of RandomStream(seed, purpose, time, index).
__host__ __device__ inline Words4 StreamBlock(uint64_t seed, RandomPurpose purpose, uint64_t time, uint64_t index, uint32_t block) {
  return PhiloxWords({{block, static_cast<uint32_t>(purpose) | static_cast<uint32_t>(time << 8), static_cast<uint32_t>(index),
                       (static_cast<uint32_t>(index >> 32) & 0xFFFF) | static_cast<uint32_t>(time >> 24) << 16}},
                     static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

}  // namespace plateau::cuda
