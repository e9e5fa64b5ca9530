// What a device reaches at best: a copy within its memory, and one large product by cuBLASLt.
#pragma once

#include "common/error.h"
#include "worker/backend/cuda/plugin.h"

namespace plateau::cuda {

// As PluginTable::measure_rates: medians of some repetitions after a warm-up, a second or two in all. Takes up to 2 GiB of the
// device's memory, less where less is free. Never throws.
Result<DeviceRates> MeasureDeviceRates(int device, Precision precision);

}  // namespace plateau::cuda
