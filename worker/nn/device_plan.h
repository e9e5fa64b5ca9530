// How a network lies in a device's memory: layouts of maps and parameters, who reads whose output, which buffers live when, and the
// bytes of all that. Pure arithmetic: the CUDA engine builds its plans from it, and `summary` prints it where there is no device.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/model/network.h"
#include "worker/nn/memory_plan.h"
#include "worker/nn/parameter.h"
#include "worker/nn/plan.h"

namespace plateau {

// Channels (of the images too), units and classes are stored in multiples of this, the rest zeros.
inline constexpr int kDeviceChannelAlign = 8;
inline constexpr int64_t kDeviceSpanAlign = 64;  // floats: where a parameter may begin in the flat buffers
int DeviceStored(int channels);

// One sample's map, [height, width, stored].
struct DeviceMap {
  int channels = 0, height = 1, width = 1;
  int stored = 0;
  int64_t values() const { return int64_t{height} * width * stored; }
};

// Native layout of a parameter: canonical [rows, channels, area] lies as [stored_rows, area, stored_channels]. A vector has channels
// and area 1.
struct DeviceLayout {
  int64_t rows = 0, channels = 1, area = 1;
  int64_t stored_rows = 0, stored_channels = 1;
  int64_t begin = 0;  // floats, in the flat buffers
  int64_t count() const { return stored_rows * area * stored_channels; }
};

// The flat buffers of weights, momenta and gradients: the last layer's parameters first, a layer's in the order of ListParameters,
// so that the backward pass finishes them from the front to the end.
struct DeviceParameters {
  std::vector<DeviceLayout> layouts;  // by parameter
  std::vector<int> order;             // parameters by `begin`
  int64_t total = 0;                  // floats, a multiple of kDeviceSpanAlign
};
// `shapes`: InferShapes of the training crop; `infos`: ListParameters of them.
DeviceParameters LayOutParameters(const Network& network, const std::vector<LayerShape>& shapes,
                                  const std::vector<ParameterInfo>& infos);

// Input `which` of layer `layer`. Its gradient is a buffer of its own unless the layer, an add, hands on its output's as it lies.
struct DeviceReader {
  int layer = 0, which = 0;
  bool shares = false;
  int gradient = -1;  // number of DevicePlan::uses
};

// Where a gradient goes through the ReLU of the layer's output. A ReLU that only a max pool reads is met by the pool's winners: none
// won where it was shut. A join is above 0 exactly where its part is: ReLUs that only a join of nothing but such reads are met once,
// behind the join. The output in front of either need not be kept for its ReLU.
enum class GradientMask {
  kNone,    // there is none, it is met further on, or there is no backward pass
  kReader,  // in the data pass of the one reader, a convolution or a fully connected layer
  kOwn,     // before the layer's own backward pass
};

struct DeviceLayer {
  bool present = false;        // auxiliary layers are not, at test
  bool backward = false;       // has a gradient
  bool data_gradient = false;  // the gradient of an input is wanted
  DeviceMap output;
  std::vector<DeviceReader> readers;  // forward order
  GradientMask mask = GradientMask::kNone;
  bool combines = false;  // the gradient is a sum of several parts, or a part that others read too is to be changed
  bool shuts = false;     // max pool: its winners remember where the ReLU of its input was shut
  bool pooled_bias = false;  // convolution: the one reader is such a pool, whose gradient and winners give the bias gradient
  // Numbers of DevicePlan::uses, -1 where there is none.
  int value = -1;          // the output
  int gradient = -1;       // what its backward pass reads: the sum, the only part, or another layer's that is shared
  int loss_gradient = -1;  // of a head
  int winners = -1;        // of a max pool: one byte a value of the output
  int statistics = -1;     // of batch norm in training: mean and variance, float, `stored` values each
};

// Buffers of one plan in the engine's arena. Moments: images to input map at 0, forward of layer l at l + 1, the loss behind the last
// one, then two of each layer's backward pass, last layer first: data, weights.
struct DevicePlan {
  PlanOptions options;
  Precision precision = Precision::kFp32;
  DeviceMap input;
  std::vector<DeviceLayer> layers;
  std::vector<int> heads;            // layers, the last one first, then the auxiliary heads
  std::vector<double> loss_weights;  // of the heads
  std::vector<int> backward_layers;  // with parameters, last first
  int images = -1;                   // staging of [batch, C, H, W] floats that come from the host
  int input_value = -1;
  std::vector<BufferUse> uses;
  MemoryPlan memory;
  int64_t value_bytes() const { return precision == Precision::kBf16 ? 2 : 4; }
};
// The network is runnable (RequireRunnable), `shapes` are InferShapes of the plan's input.
DevicePlan LayOutPlan(const Network& network, const std::vector<LayerShape>& shapes, const PlanOptions& options, Precision precision);

// Bytes of one engine that holds one plan.
struct DeviceMemory {
  uint64_t weights = 0, momenta = 0, gradients = 0;
  uint64_t copy = 0;       // bf16 weights
  uint64_t arena = 0;      // activations and gradients between layers: exactly what the plan takes
  uint64_t workspace = 0;  // of convolutions: the most that any may take
  uint64_t rows = 0;       // labels, logits and sums of a batch
  uint64_t batches = 0;    // training: two batches of the rank, and two of its validation, on their way to the device
  uint64_t branches = 0;   // training in lanes: their open sums of gradients
  uint64_t total() const { return weights + momenta + gradients + copy + arena + workspace + rows + batches + branches; }
};
// `crop` as EngineOptions::crop, which fixes the parameters' shapes. `rank_rows`: rows of all lanes, at least the plan's batch, cut
// into as few lanes of it as do.
// Errors as InferShapes, RequireRunnable and RequireFit; kUnavailable for maps that are too large to count.
Result<DeviceMemory> PredictMemory(const Network& network, int crop, const PlanOptions& options, Precision precision,
                                   int rank_rows);
// What convolutions and scratch of kernels may take at most beside a plan: as much as its largest map, in [64 MiB, 1 GiB].
uint64_t WorkspaceLimit(const DevicePlan& plan);
// A plan's own small buffers, in one piece: offsets in bytes.
struct DeviceRowsLayout {
  uint64_t labels = 0, weights = 0, sample_index = 0;
  uint64_t scales = 0;      // of bytes
  uint64_t row_losses = 0;  // kDeviceRowLoss bytes each
  uint64_t logits = 0;      // [batch, classes] floats
  uint64_t figures = 0;     // kDeviceFigures bytes: sums, scalars of the step, the flag
  uint64_t total_bytes = 0;
};
inline constexpr uint64_t kDeviceFigures = 256, kDeviceRowLoss = 16;
DeviceRowsLayout LayOutRows(int batch, int classes);
// Into how many rows the lanes of a rank of like.batch rows may be cut so that all fits `bytes` as PredictMemory counts: the most, in as
// few lanes as do. Where all rows fit at once, the largest batch that does. 0 when nothing fits.
int LargestBatch(const Network& network, int crop, const PlanOptions& like, Precision precision, uint64_t bytes);
// Images of the largest rank that fits `bytes` in some cut into lanes, like.batch at most; 0 when not even one does.
int MostRows(const Network& network, int crop, const PlanOptions& like, Precision precision, uint64_t bytes);
// The cut of a rank of like.batch rows that takes the least memory; errors as PredictMemory.
struct LeastCut {
  int lanes = 1, lane_rows = 1;
  DeviceMemory memory{};
};
Result<LeastCut> LeastMemory(const Network& network, int crop, const PlanOptions& like, Precision precision);
// Of the bytes that a rank may use of a device, those that batches are planned with: the rest is left to CUDA's libraries, more where
// NCCL keeps buffers.
uint64_t PlanningBytes(uint64_t rank_bytes, bool nccl);

}  // namespace plateau
