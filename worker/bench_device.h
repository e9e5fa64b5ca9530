// Times training on a CUDA device: whole steps as training runs them, and each layer's passes beside the least time they could take.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "worker/backend/device/device.h"
#include "worker/bench_floor.h"
#include "worker/bench_run.h"

namespace plateau {

struct DeviceBench {
  std::string device;  // as the engine describes itself
  Precision precision = Precision::kFp32;
  cuda::DeviceRates rates;      // measured in the same run
  std::vector<double> step_s;   // whole steps through the trainer, ascending
  double train_flops = 0;       // of one image, counted as direct convolutions
  double first_loss = 0, last_loss = 0;  // means over the batch
  // By layer, medians over steps that the host drove.
  std::vector<std::string> names;
  std::vector<PassSeconds> passes;
  std::vector<LayerFloor> floors;
  std::vector<std::string> algorithms;

  double MedianStep() const { return step_s[step_s.size() / 2]; }
  // Of the rate of large matrix products in the same precision.
  double GemmShare(int batch) const { return batch * train_flops / MedianStep() / rates.gemm_flops_per_s; }
};

// Of `options`, algorithm, checkpoint and rounds do not count. kNumeric when the loss does not stay finite.
Result<DeviceBench> RunDeviceBench(const BenchOptions& options, const Compute& compute);

nlohmann::ordered_json DeviceBenchToJson(const BenchOptions& options, const DeviceBench& bench);
std::string DeviceBenchText(const BenchOptions& options, const DeviceBench& bench);

}  // namespace plateau
