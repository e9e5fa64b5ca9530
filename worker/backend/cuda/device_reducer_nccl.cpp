// Sums over ranks by NCCL on a stream of its own, and the choice between NCCL and MPI.
#include <optional>
#include <vector>

#include "common/log.h"
#include "worker/backend/cuda/device_reducer_sum.h"
#include "worker/backend/cuda/nccl_group.h"
#include "worker/collective/peers.h"

namespace plateau::cuda {
namespace {

class NcclSum final : public RankSum {
 public:
  NcclSum(std::unique_ptr<NcclGroup> group, const Stream& compute) : compute_(compute), group_(std::move(group)) {}

  bool capturable() const override { return true; }
  void Start(std::span<const Stretch> stretches) override {
    ready_.Record(compute_.get());
    ready_.Block(stream_.get());
    group_->AllReduceSum(stretches, stream_.get());
  }
  void Finish() override {
    summed_.Record(stream_.get());
    summed_.Block(compute_.get());
  }
  void Wait(const Event& done) override { group_->Wait(done); }
  std::string description() const override { return "all-reduce " + group_->description(); }

 private:
  const Stream& compute_;
  Stream stream_;
  Event ready_, summed_;
  std::unique_ptr<NcclGroup> group_;  // last: it lets go of the stream before the stream goes
};

// Two ranks of the same card, as NCCL sees it: by the bus, so that parts of one (MIG) are the same. Nothing when every rank has its
// own. Collective.
std::optional<std::pair<int, int>> SharedDevice(Collective& collective, int device) {
  char bus[64] = {};
  Check(cudaDeviceGetPCIBusId(bus, sizeof(bus), device), "cudaDeviceGetPCIBusId");
  const std::vector<int64_t> devices = GatherNames(collective, bus);
  for (size_t b = 1; b < devices.size(); ++b)
    for (size_t a = 0; a < b; ++a)
      if (devices[a] == devices[b]) return std::pair(static_cast<int>(a), static_cast<int>(b));
  return {};
}

}  // namespace

Result<std::unique_ptr<RankSum>> MakeRankSum(const RankSumOptions& options, Collective& collective, const Stream& compute) {
  if (collective.world_size() == 1) return MakeNoSum();
  if (options.wanted == CollectiveKind::kMpi) return MakeHostSum(collective, compute, options.most_floats);
  if (const auto shared = SharedDevice(collective, options.device)) {
    const auto [a, b] = *shared;
    if (options.wanted == CollectiveKind::kNccl)
      return Fail(ErrorCode::kInvalidInput, "resources.collective: nccl: ranks {} and {} share a device, which NCCL refuses; start as many "
                  "ranks as there are devices, or use resources.collective: mpi", a, b);
    if (collective.rank() == 0)
      LogInfo("resources.collective: auto takes MPI through host memory: ranks {} and {} share a device, which NCCL refuses", a, b);
    return MakeHostSum(collective, compute, options.most_floats);
  }
  PLATEAU_ASSIGN(
      auto group,
      NcclGroup::Join(collective, {.device = options.device, .deterministic = options.deterministic, .watch = options.watch}));
  if (collective.rank() == 0) LogInfo("gradients are summed over {} ranks by {}", collective.world_size(), group->description());
  return std::make_unique<NcclSum>(std::move(group), compute);
}

}  // namespace plateau::cuda
