// Reading device, precision and collective of a specification together.
#include "coordinator/job/device_need.h"

#include <fmt/format.h>

namespace plateau {

DeviceNeed NeedOf(const JobSpec& spec) {
  const auto& resources = spec.resources;
  if (resources.device != DeviceKind::kAuto)
    return {resources.device, fmt::format("resources.device: {}", DeviceKindName(resources.device))};
  if (resources.collective == CollectiveKind::kNccl) return {DeviceKind::kCuda, "resources.collective: nccl"};
  const bool trains = spec.kind == "train";
  const auto& precision = trains ? spec.training.precision : spec.evaluate.precision;
  if (precision && *precision != Precision::kFp32)
    return {DeviceKind::kCuda, fmt::format("{}.precision: {}", trains ? "training" : "evaluate", PrecisionName(*precision))};
  return {DeviceKind::kAuto, "resources.device: auto"};
}

}  // namespace plateau
