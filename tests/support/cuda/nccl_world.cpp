// How collectives of the emulated NCCL come together and what they compute: sums run in the order of ranks.
#include "tests/support/cuda/nccl_world.h"

#include <algorithm>
#include <cstring>

#include "tests/support/cuda/numbers.h"

namespace plateau::emulated {
namespace {

template <class T>
T Combine(T a, T b, ncclRedOp_t operation) {
  switch (operation) {
    case ncclProd: return a * b;
    case ncclMax: return std::max(a, b);
    case ncclMin: return std::min(a, b);
    default: return a + b;
  }
}

template <class T>
void ReduceAs(const Collective& collective) {
  const Part& first = collective.parts.front();
  std::vector<T> sum(first.count);
  std::memcpy(sum.data(), first.send, first.count * sizeof(T));
  std::vector<T> next(first.count);
  for (size_t rank = 1; rank < collective.parts.size(); ++rank) {
    std::memcpy(next.data(), collective.parts[rank].send, first.count * sizeof(T));
    for (size_t i = 0; i < first.count; ++i) sum[i] = Combine(sum[i], next[i], first.operation);
  }
  if (first.operation == ncclAvg)
    for (T& value : sum) value /= static_cast<T>(collective.parts.size());
  for (const Part& part : collective.parts) std::memcpy(part.receive, sum.data(), first.count * sizeof(T));
}

void ReduceBf16(const Collective& collective) {
  const Part& first = collective.parts.front();
  for (size_t i = 0; i < first.count; ++i) {
    const auto at = static_cast<int64_t>(i);
    float sum = LoadBf16(first.send, at);
    for (size_t rank = 1; rank < collective.parts.size(); ++rank)
      sum = RoundToBf16(Combine(sum, LoadBf16(collective.parts[rank].send, at), first.operation));
    for (const Part& part : collective.parts) StoreBf16(part.receive, at, sum);
  }
}

void Reduce(const Collective& collective) {
  switch (collective.parts.front().type) {
    case ncclBfloat16: return ReduceBf16(collective);
    case ncclFloat64: return ReduceAs<double>(collective);
    case ncclInt32: return ReduceAs<int32_t>(collective);
    case ncclInt64: return ReduceAs<int64_t>(collective);
    case ncclUint64: return ReduceAs<uint64_t>(collective);
    default: return ReduceAs<float>(collective);
  }
}

void Poison(const Collective& collective) {
  for (const Part& part : collective.parts)
    if (part.receive != nullptr) std::memset(part.receive, 0xFF, ReceivedBytes(part, collective.parts.size()));
}

void RunCollective(const Collective& collective) {
  const Part& first = collective.parts.front();
  const size_t bytes = first.count * TypeBytes(first.type);
  switch (first.kind) {
    case Kind::kAllReduce: return Reduce(collective);
    case Kind::kBroadcast: {
      const Part& root = collective.parts[static_cast<size_t>(first.root)];
      for (const Part& part : collective.parts) std::memmove(part.receive, root.send, bytes);
      return;
    }
    case Kind::kAllGather: {
      std::vector<char> all;
      for (const Part& part : collective.parts) all.insert(all.end(), static_cast<const char*>(part.send), static_cast<const char*>(part.send) + bytes);
      for (const Part& part : collective.parts) std::memcpy(part.receive, all.data(), all.size());
      return;
    }
  }
}

bool Agree(const Collective& collective) {
  const Part& first = collective.parts.front();
  return std::all_of(collective.parts.begin(), collective.parts.end(), [&](const Part& part) {
    return part.kind == first.kind && part.count == first.count && part.type == first.type && part.root == first.root &&
           part.operation == first.operation;
  });
}

std::shared_ptr<Collective> MakeCollective(const std::shared_ptr<World>& world, int64_t number, int device) {
  auto collective = std::make_shared<Collective>();
  collective->parts.resize(world->devices.size());
  collective->operation = std::make_shared<Operation>();
  collective->operation->device = device;
  const std::weak_ptr<Collective> weak = collective;
  collective->operation->ready = [world, weak] {
    const auto held = weak.lock();
    return world->aborted || (held != nullptr && held->arrived == held->parts.size() && ErrorOf(*world) == ncclSuccess);
  };
  collective->operation->run = [world, collective, number] {
    bool sound = false;
    {
      const Lock lock(TheSystem().mutex);
      sound = !world->aborted && Agree(*collective);
      if (!sound && !world->aborted) world->error = ncclInvalidUsage;  // the ranks called different things
      world->collectives.erase(number);
    }
    sound ? RunCollective(*collective) : Poison(*collective);
  };
  return collective;
}

}  // namespace

size_t TypeBytes(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8: return 1;
    case ncclBfloat16: return 2;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64: return 8;
    default: return 4;
  }
}

ncclResult_t ErrorOf(const World& world) {
  for (const auto& [rank, status] : TheSystem().rank_faults)
    if (rank < static_cast<int>(world.devices.size())) return static_cast<ncclResult_t>(status);
  return world.error;
}

size_t ReceivedBytes(const Part& part, size_t ranks) {
  return part.count * TypeBytes(part.type) * (part.kind == Kind::kAllGather ? ranks : 1);
}

void Join(const std::shared_ptr<Member>& member, const Part& part, const OperationPtr& operation) {
  const int64_t number = member->next++;
  auto& collective = member->world->collectives[number];
  if (collective == nullptr) collective = MakeCollective(member->world, number, member->device);
  collective->parts[static_cast<size_t>(member->rank)] = part;
  ++collective->arrived;
  auto& before = collective->operation->before;
  before.insert(before.end(), operation->before.begin(), operation->before.end());
  operation->before = {collective->operation};
  TheSystem().changed.notify_all();
}

}  // namespace plateau::emulated
