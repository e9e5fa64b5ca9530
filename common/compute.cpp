// The words of devices, precisions and collectives, and back.
#include "common/compute.h"

#include <array>

namespace plateau {
namespace {

constexpr std::array<const char*, 3> kDevices{"auto", "cpu", "cuda"};     // by DeviceKind
constexpr std::array<const char*, 3> kPrecisions{"fp32", "tf32", "bf16"};  // by Precision
constexpr std::array<const char*, 3> kCollectives{"auto", "mpi", "nccl"};  // by CollectiveKind

template <class Kind>
Result<Kind> Parse(const std::array<const char*, 3>& names, const std::string& text, const std::string& field) {
  for (size_t i = 0; i < names.size(); ++i)
    if (text == names[i]) return static_cast<Kind>(i);
  return Fail(ErrorCode::kInvalidInput, "{}: \"{}\" is not one of {}, {}, {}", field, text, names[0], names[1], names[2]);
}

}  // namespace

const char* DeviceKindName(DeviceKind kind) { return kDevices[static_cast<size_t>(kind)]; }
const char* PrecisionName(Precision precision) { return kPrecisions[static_cast<size_t>(precision)]; }
const char* CollectiveKindName(CollectiveKind kind) { return kCollectives[static_cast<size_t>(kind)]; }

Result<DeviceKind> ParseDeviceKind(const std::string& text, const std::string& field) {
  return Parse<DeviceKind>(kDevices, text, field);
}

Result<std::optional<Precision>> ParsePrecision(const std::string& text, const std::string& field) {
  if (text == "auto") return std::optional<Precision>();
  const auto named = Parse<Precision>(kPrecisions, text, field);
  if (!named) return Fail(ErrorCode::kInvalidInput, "{}: \"{}\" is not one of auto, fp32, tf32, bf16", field, text);
  return std::optional<Precision>(*named);
}

Result<CollectiveKind> ParseCollectiveKind(const std::string& text, const std::string& field) {
  return Parse<CollectiveKind>(kCollectives, text, field);
}

}  // namespace plateau
