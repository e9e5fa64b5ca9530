// Small computations with known results: a convolution on the CPU and on each device, sums over the ranks and their devices.
#pragma once

#include <vector>

#include "worker/backend/device/device.h"
#include "worker/collective/collective.h"
#include "worker/doctor/finding.h"
#include "worker/doctor/watchdog.h"

namespace plateau {

// A network of one convolution and one fully connected layer on the CPU, against naive loops.
std::vector<Finding> CheckCpu(int threads);
// The shared object's own test of each device, each a step of `watchdog`.
std::vector<Finding> CheckCuda(const CudaAnswer& answer, Watchdog& watchdog);
// Collective: sums whose results every rank knows.
std::vector<Finding> CheckCollective(Collective& collective);
// Collective: the same over the ranks' devices, as training sums gradients: NCCL where every rank has a device of its own. `device` is this
// rank's. Nothing for one rank, and where no rank has a device.
std::vector<Finding> CheckDeviceSum(Collective& collective, const CudaAnswer& answer, int device);

}  // namespace plateau
