// Greedy packing, largest first.
#include "worker/nn/memory_plan.h"

#include <algorithm>
#include <numeric>

namespace plateau {

MemoryPlan PackBuffers(std::span<const BufferUse> uses) {
  std::vector<size_t> order(uses.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return uses[a].bytes > uses[b].bytes; });

  struct Taken {
    size_t begin, end;
    int first, last;
  };
  std::vector<Taken> taken;  // sorted by begin
  MemoryPlan plan{.offsets = std::vector<size_t>(uses.size(), 0)};
  for (const size_t index : order) {
    const BufferUse& use = uses[index];
    const size_t bytes = (use.bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
    size_t offset = 0;
    for (const Taken& other : taken) {
      if (other.last < use.first || use.last < other.first) continue;
      if (other.begin >= offset + bytes) break;
      offset = std::max(offset, other.end);
    }
    plan.offsets[index] = offset;
    plan.total_bytes = std::max(plan.total_bytes, offset + bytes);
    const Taken placed{offset, offset + bytes, use.first, use.last};
    taken.insert(
        std::upper_bound(taken.begin(), taken.end(), placed, [](const Taken& a, const Taken& b) { return a.begin < b.begin; }),
        placed);
  }
  return plan;
}

}  // namespace plateau
