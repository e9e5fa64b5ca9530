// What kernels and their callers agree on: number formats, maps, and the few figures that live on the device.
#pragma once

#include <cstdint>

namespace plateau::cuda {

enum class DataType { kFloat, kBf16 };
inline int64_t SizeOf(DataType type) { return type == DataType::kFloat ? 4 : 2; }

// A map in device memory, [n, h, w, stored] (NHWC): `channels` are the network's, behind them zeros up to `stored`, which every
// kernel keeps zero.
struct MapShape {
  int n = 0, h = 1, w = 1;
  int channels = 0, stored = 0;
  int64_t pixels() const { return int64_t{n} * h * w; }
  int64_t values() const { return pixels() * stored; }
};

struct Map {
  DataType type = DataType::kFloat;
  MapShape shape;
  void* data = nullptr;
};

// Channels, units and classes are stored in multiples of this: 16 bytes of bf16, what tensor cores and vector loads want.
inline constexpr int kChannelAlign = 8;
inline int Stored(int channels) { return (channels + kChannelAlign - 1) / kChannelAlign * kChannelAlign; }

// What changes from step to step, in device memory, so that a captured graph can be launched again as it is. The host writes
// `lr`, `step` and `votes` by one copy a step. Votes: stop, fault, validate, checkpoint.
struct StepScalars {
  float lr = 0;
  uint32_t reserved = 0;
  uint64_t step = 0;
  float votes[4] = {};
};

// Sums of a step, floats so that they travel in the last bucket of gradients: loss, images, top-1, then nonfinite, then the votes.
inline constexpr int kTotals = 8;  // loss, images, top1_correct, nonfinite, stop, fault, validate, checkpoint

// What outlives a step on the device. `halted` is raised when a step's summed totals are not finite and never lowered by a kernel:
// no update behind it changes anything.
struct TrainerFlags {
  int32_t halted = 0;
  int32_t nonfinite_parameter = INT32_MAX;  // lowest number of a parameter that an update made NaN or infinite
};

// Sums over the rows of weight 1 of a plan's main head, as LossSums.
struct DeviceLoss {
  double loss = 0;
  int64_t images = 0, top1_correct = 0, top5_correct = 0;
  int64_t nonfinite = 0;  // rows whose loss is NaN or infinite
};

// What SoftmaxLoss keeps of a row between its two kernels.
struct RowLoss {
  double loss = 0;       // -log p(label)
  int32_t before = 0;    // classes that stand before the label
  int32_t counted = 0;   // 0: a row of weight 0
};

// A parameter's place in the flat buffers of weights, momenta and gradients.
struct ParameterSpan {
  int64_t begin = 0, count = 0;  // floats; begin is a multiple of 64
  float weight_decay = 0;        // 0 where it is exempt
  float average_momentum = 0;    // > 0: a running average, moved by AverageUpdate's rule instead of SGD's
};

}  // namespace plateau::cuda
