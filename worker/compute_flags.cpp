// Reads --device and --precision.
#include "worker/compute_flags.h"

namespace plateau {

void AddComputeFlags(CLI::App& verb, ComputeFlags& flags) {
  verb.add_option("--device", flags.device, "auto (CUDA where a device answers, else the CPU), cpu, cuda")->capture_default_str();
  verb.add_option("--precision", flags.precision, "auto (bf16 on CUDA, fp32 on the CPU), fp32, tf32, bf16")->capture_default_str();
}

Result<Compute> ChooseCompute(const ComputeFlags& flags) {
  PLATEAU_ASSIGN(const DeviceKind wanted, ParseDeviceKind(flags.device, "--device"));
  PLATEAU_ASSIGN(const auto precision, ParsePrecision(flags.precision, "--precision"));
  Compute compute;
  PLATEAU_ASSIGN(compute.device, ChooseDevice(wanted, LocalRank(), "--device"));
  PLATEAU_ASSIGN(compute.precision, ChoosePrecision(compute.device, precision, "--precision"));
  return compute;
}

Status CheckAlgorithm(const std::string& algorithm, const Compute& compute) {
  if (!compute.device.cuda || algorithm == "auto") return {};
  return Fail(
      ErrorCode::kInvalidInput,
      "--algorithm {}: belongs to the CPU, and this runs on {}, whose algorithms are timed; leave it out, or give --device cpu",
      algorithm, compute.device.reason);
}

}  // namespace plateau
