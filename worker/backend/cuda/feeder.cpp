// Page-locked double buffers and the stream that empties them.
#include "worker/backend/cuda/feeder.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"

namespace plateau::cuda {
namespace {

constexpr size_t kAlign = 256;
constexpr int64_t kCopyBytes = int64_t{1} << 20;  // of one piece that a thread copies

size_t Aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

}  // namespace

StepFeeder::StepFeeder(int rows, int64_t image_values, bool pixels, int threads)
    : rows_(rows), threads_(threads), image_values_(image_values), pixels_(pixels) {
  const auto count = static_cast<size_t>(rows), values = count * static_cast<size_t>(image_values);
  scales_ = Aligned(pixels ? values : values * sizeof(float));
  labels_ = scales_ + Aligned(pixels ? count * sizeof(PixelScale) : 0);
  weights_ = labels_ + Aligned(count * sizeof(int32_t));
  sample_index_ = weights_ + Aligned(count * sizeof(float));
  scalars_ = sample_index_ + Aligned(count * sizeof(uint64_t));
  total_ = scalars_ + Aligned(sizeof(StepScalars));
  for (Slot& slot : slots_) {
    slot.device = DeviceBuffer(total_);
    slot.host = PinnedBuffer(total_);
  }
}

// One thread does not fill page-locked memory as fast as a device empties it.
void StepFeeder::CopyImages(std::span<const std::byte> images, std::byte* to) const {
  const auto count = static_cast<int64_t>(images.size());
#pragma omp parallel for num_threads(threads_) schedule(static) if (threads_ > 1 && count > kCopyBytes)
  for (int64_t begin = 0; begin < count; begin += kCopyBytes)
    std::memcpy(to + begin, images.data() + begin, static_cast<size_t>(std::min(kCopyBytes, count - begin)));
}

void StepFeeder::CheckRows(const LaneBatch& rows) const {
  const auto count = static_cast<size_t>(rows_), values = count * static_cast<size_t>(image_values_);
  PLATEAU_CHECK(rows.labels.size() == count && rows.weights.size() == count && rows.sample_index.size() == count,
                "{} rows: {} labels, {} weights, {} sample indices", rows_, rows.labels.size(), rows.weights.size(),
                rows.sample_index.size());
  PLATEAU_CHECK(rows.images.size() == (pixels_ ? 0 : values) && rows.pixels.size() == (pixels_ ? values : 0) &&
                    rows.scales.size() == (pixels_ ? count : 0),
                "{} rows of {} {}: {} image values, {} bytes, {} scales", rows_, image_values_, pixels_ ? "bytes" : "floats",
                rows.images.size(), rows.pixels.size(), rows.scales.size());
}

void StepFeeder::Feed(int slot, const StepInput& input, const Stream& compute) {
  const LaneBatch& rows = input.rows;
  CheckRows(rows);
  Slot& to = slots_[static_cast<size_t>(slot)];
  CopyImages(pixels_ ? std::as_bytes(rows.pixels) : std::as_bytes(rows.images), to.host.as<std::byte>());
  if (pixels_) std::memcpy(to.host.as<char>(scales_), rows.scales.data(), rows.scales.size_bytes());
  std::memcpy(to.host.as<char>(labels_), rows.labels.data(), rows.labels.size_bytes());
  std::memcpy(to.host.as<char>(weights_), rows.weights.data(), rows.weights.size_bytes());
  std::memcpy(to.host.as<char>(sample_index_), rows.sample_index.data(), rows.sample_index.size_bytes());
  *to.host.as<StepScalars>(scalars_) = {.lr = static_cast<float>(input.lr),
                                        .step = input.step,
                                        .votes = {static_cast<float>(input.votes.stop), static_cast<float>(input.votes.fault),
                                                  static_cast<float>(input.votes.validate),
                                                  static_cast<float>(input.votes.checkpoint)}};
  CopyToDevice(to.device.data(), to.host.data(), total_, stream_.get());
  to.copied.Record(stream_.get());
  to.copied.Block(compute.get());
}

DeviceRows StepFeeder::Rows(int slot, int first, int samples) const {
  const DeviceBuffer& from = slots_[static_cast<size_t>(slot)].device;
  return {.images = pixels_ ? nullptr : from.as<float>() + first * image_values_,
          .pixels = pixels_ ? from.as<uint8_t>() + first * image_values_ : nullptr,
          .scales = pixels_ ? from.as<PixelScale>(scales_) + first : nullptr,
          .labels = from.as<int32_t>(labels_) + first,
          .weights = from.as<float>(weights_) + first,
          .sample_index = from.as<uint64_t>(sample_index_) + first,
          .rows = samples,
          .first = first == 0};
}

const StepScalars* StepFeeder::scalars(int slot) const { return slots_[static_cast<size_t>(slot)].device.as<StepScalars>(scalars_); }

}  // namespace plateau::cuda
