// Packs buffers with known lifetimes into one arena: two may share bytes when they never live at the same moment.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace plateau {

// Live from moment `first` to moment `last`, both included.
struct BufferUse {
  size_t bytes = 0;
  int first = 0, last = 0;
};

struct MemoryPlan {
  std::vector<size_t> offsets;  // bytes, multiples of kArenaAlignment, one a use
  size_t total_bytes = 0;
};

constexpr size_t kArenaAlignment = 4096;

// Greedy by size: the largest buffer takes the lowest gap that is free during its whole life. Deterministic.
MemoryPlan PackBuffers(std::span<const BufferUse> uses);

}  // namespace plateau
