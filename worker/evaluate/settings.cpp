// Reads and checks what a test is asked to look at.
#include "worker/evaluate/settings.h"

#include <algorithm>
#include <charconv>

#include "dataset/test_image.h"

namespace plateau {
namespace {

constexpr int kMaxScale = 16384, kMaxBatch = 65536;

}  // namespace

int TestSettings::crop_views() const {
  if (!crops()) return 0;
  return (mode == EvaluationMode::kCenter ? 1 : kGridSide * kGridSide) * flips();
}

Result<std::vector<int>> ParseScales(const std::string& text) {
  std::vector<int> scales;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    int scale = 0;
    const auto [rest, error] = std::from_chars(text.data() + at, text.data() + end, scale);
    if (error != std::errc() || rest != text.data() + end || scale < 1 || scale > kMaxScale)
      return Fail(ErrorCode::kInvalidInput, "scales: \"{}\" is not a whole number from 1 to {}; write 256 or 224,256,288",
                  text.substr(at, end - at), kMaxScale);
    scales.push_back(scale);
    at = end + 1;
  }
  return scales;
}

Status CheckSettings(const TestSettings& settings, int crop) {
  if (settings.scales.empty()) return Fail(ErrorCode::kInvalidInput, "scales: none given; write 256 or 224,256,288");
  for (size_t i = 0; i < settings.scales.size(); ++i) {
    const int scale = settings.scales[i];
    if (scale < crop)
      return Fail(ErrorCode::kInvalidInput, "scales: {} is smaller than the checkpoint's crop of {} pixels; test at {} or more",
                  scale, crop, crop);
    if (scale > kMaxScale) return Fail(ErrorCode::kInvalidInput, "scales: {} is more than {}", scale, kMaxScale);
    if (std::count(settings.scales.begin(), settings.scales.end(), scale) > 1)
      return Fail(ErrorCode::kInvalidInput, "scales: {} is there twice; name each once", scale);
  }
  if (settings.batch < 1 || settings.batch > kMaxBatch)
    return Fail(ErrorCode::kInvalidInput, "batch: {} is not in [1, {}]", settings.batch, kMaxBatch);
  return {};
}

}  // namespace plateau
