// Finds the ranks of each device, and counts what is free on it.
#include "worker/train/device_share.h"

#include <algorithm>

#include "common/log.h"
#include "common/text.h"
#include "worker/collective/peers.h"
#include "worker/train/agreement.h"

namespace plateau {
namespace {

// Collective. Of this rank's device; the first call opens it, which takes some memory itself.
Result<int64_t> FreeBytes(const cuda::PluginTable& table, int device, Collective& collective) {
  const auto bytes = table.free_bytes(device);
  PLATEAU_TRY(Agree(collective, bytes ? Status() : Fail(bytes.error())));
  return static_cast<int64_t>(*bytes);
}

}  // namespace

Status ShareDevices(const DeviceChoice& device, Collective& collective, EngineOptions& options) {
  options.ranks = collective.world_size();
  if (!device.cuda || options.ranks == 1) return {};
  const CudaAnswer answer = AskCuda();
  const auto number = static_cast<size_t>(device.device);
  const bool there = answer.table != nullptr && number < answer.devices.size();
  PLATEAU_TRY(Agree(collective, there ? Status() : Fail(ErrorCode::kUnsupported, "device: cuda is gone: {}", answer.reason)));
  const std::vector<int64_t> devices = GatherNames(collective, answer.devices[number].identity);
  const auto rank = static_cast<size_t>(collective.rank());
  const auto sharers = [&](size_t of) { return static_cast<int>(std::ranges::count(devices, devices[of])); };
  options.device_sharers = sharers(rank);
  bool any = false;
  for (size_t other = 0; other < devices.size(); ++other) any = any || sharers(other) > 1;
  if (!any) return {};
  PLATEAU_TRY(FreeBytes(*answer.table, device.device, collective));
  PLATEAU_ASSIGN(const int64_t mine, FreeBytes(*answer.table, device.device, collective));
  const std::vector<int64_t> free = Gather(collective, mine);
  int64_t least = mine;
  for (size_t other = 0; other < free.size(); ++other)
    if (devices[other] == devices[rank]) least = std::min(least, free[other]);
  options.device_free_bytes = static_cast<uint64_t>(least);
  if (options.device_sharers > 1 && std::ranges::find(devices, devices[rank]) == devices.begin() + collective.rank())
    LogInfo("{} ranks share {}: each may use an equal part of the {} that are free", options.device_sharers, device.reason,
            HumanBytes(options.device_free_bytes));
  return {};
}

}  // namespace plateau
