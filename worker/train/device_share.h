// How ranks that run on one device share its memory.
#pragma once

#include "worker/backend/device/device.h"
#include "worker/collective/collective.h"
#include "worker/nn/plan.h"

namespace plateau {

// Collective; before any rank makes its engine. Fills `ranks`, and where ranks share devices `device_sharers` and `device_free_bytes`:
// what is free is counted when every rank has opened its device and none has taken memory yet. All ranks run on CUDA devices, or none
// does. Errors are the same on every rank: kUnsupported or kUnavailable where a device does not answer.
Status ShareDevices(const DeviceChoice& device, Collective& collective, EngineOptions& options);

}  // namespace plateau
