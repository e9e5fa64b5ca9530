// The words of devices, precisions and collectives, and back.
#include "common/compute.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "common/text.h"

namespace plateau {
namespace {

constexpr std::array<const char*, 3> kDevices{"auto", "cpu", "cuda"};     // by DeviceKind
constexpr std::array<const char*, 3> kPrecisions{"fp32", "tf32", "bf16"};  // by Precision
constexpr std::array<const char*, 3> kCollectives{"auto", "mpi", "nccl"};  // by CollectiveKind

// What people call a CUDA device elsewhere.
constexpr std::array<const char*, 3> kCallsCuda{"gpu", "gpus", "nvidia"};

// "; did you mean cuda?", or nothing.
std::string Hint(const std::string& text, const std::array<const char*, 3>& names, bool device) {
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::string nearest;
  if (device && std::find(kCallsCuda.begin(), kCallsCuda.end(), lower) != kCallsCuda.end())
    nearest = DeviceKindName(DeviceKind::kCuda);
  else
    nearest = NearestName(lower, std::vector<std::string>(names.begin(), names.end()));
  return nearest.empty() ? "" : "; did you mean " + nearest + "?";
}

template <class Kind>
Result<Kind> Parse(const std::array<const char*, 3>& names, const std::string& text, const std::string& field) {
  for (size_t i = 0; i < names.size(); ++i)
    if (text == names[i]) return static_cast<Kind>(i);
  return Fail(ErrorCode::kInvalidInput, "{}: \"{}\" is not one of {}, {}, {}{}", field, text, names[0], names[1], names[2],
              Hint(text, names, std::is_same_v<Kind, DeviceKind>));
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
