// How a job computes and who sums its gradients: words that specifications and engines share.
#pragma once

#include <optional>
#include <string>

#include "common/error.h"

namespace plateau {

enum class DeviceKind { kAuto, kCpu, kCuda };

// fp32 throughout; tf32 (fp32 storage, 10 bits of mantissa in products); bf16 maps and products over fp32 master weights. Sums are
// fp32 in all.
enum class Precision { kFp32, kTf32, kBf16 };

// Who sums gradients over ranks: NCCL on the devices, or MPI through host memory. kAuto: NCCL where every rank has a device of its
// own.
enum class CollectiveKind { kAuto, kMpi, kNccl };

const char* DeviceKindName(DeviceKind kind);          // "auto", "cpu", "cuda"
const char* PrecisionName(Precision precision);       // "fp32", "tf32", "bf16"
const char* CollectiveKindName(CollectiveKind kind);  // "auto", "mpi", "nccl"

// `field` stands at the front of the message ("--device").
Result<DeviceKind> ParseDeviceKind(const std::string& text, const std::string& field);
// Nothing for "auto": the device decides (bf16 on CUDA, fp32 on the CPU).
Result<std::optional<Precision>> ParsePrecision(const std::string& text, const std::string& field);
Result<CollectiveKind> ParseCollectiveKind(const std::string& text, const std::string& field);

}  // namespace plateau
