// Brings batches and the figures of their steps to the device: two sets of buffers, so that one is filled while the device reads the
// other.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "worker/backend/cuda/cuda_plan.h"
#include "worker/backend/cuda/runtime.h"
#include "worker/nn/trainer.h"

namespace plateau::cuda {

// Training thread only.
class StepFeeder {
 public:
  static constexpr int kSlots = 2;

  // For steps of `rows` rows with `image_values` values each: bytes with a scale a row, or floats. `threads`: the team that copies into
  // page-locked memory.
  StepFeeder(int rows, int64_t image_values, bool pixels, int threads);

  // Copies a step into page-locked memory, which ends the use of its spans, and queues its way to the device on a stream of its own;
  // what is queued on `compute` from now on sees it. The device is done with the step that was in the slot before.
  void Feed(int slot, const StepInput& input, const Stream& compute);
  // The slot's rows from `first` on, of which `samples` stand before the padding; addresses stay the same.
  DeviceRows Rows(int slot, int first, int samples) const;
  const StepScalars* scalars(int slot) const;
  size_t device_bytes() const { return kSlots * total_; }

 private:
  struct Slot {
    DeviceBuffer device;
    PinnedBuffer host;
    Event copied;
  };
  void CheckRows(const LaneBatch& rows) const;
  void CopyImages(std::span<const std::byte> images, std::byte* to) const;

  int rows_, threads_;
  int64_t image_values_;
  bool pixels_;
  size_t scales_ = 0, labels_ = 0, weights_ = 0, sample_index_ = 0, scalars_ = 0, total_ = 0;  // offsets in bytes, behind the images
  Stream stream_;
  std::array<Slot, kSlots> slots_;
};

}  // namespace plateau::cuda
