// A network compiled for one batch size, input size, device and mode: nothing is allocated inside a step.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/compute.h"
#include "common/error.h"
#include "common/pixel_scale.h"
#include "worker/model/network.h"
#include "worker/nn/parameter.h"

namespace plateau {

class AlgorithmChoices;
class Collective;
class Scorer;
class StartWatch;
class Trainer;
struct TrainerOptions;

// One lane's samples; all spans have `batch` rows. Borrowed until the lane's backward pass is done.
struct LaneBatch {
  std::span<const float> images;    // [batch, C, H, W], normalised
  std::span<const int32_t> labels;  // [batch]
  // [batch]; 1, or 0 for padding rows: they add nothing to loss, counts or gradients. When a network with batch norm trains they
  // come last, and are left out of the batch's statistics.
  std::span<const float> weights;
  std::span<const uint64_t> sample_index;  // [batch]; source ordinals: key of the dropout masks
  // In place of `images`, which are then empty, for engines that take pixels: [batch, C, H, W], and [batch].
  std::span<const uint8_t> pixels = {};
  std::span<const PixelScale> scales = {};
};

// Sums over the lane's rows of weight 1, of the main head: auxiliary heads add to gradients, not to figures.
struct LossSums {
  double loss = 0;  // sum of -log p(label)
  int64_t images = 0;
  int64_t top1_correct = 0;  // ties go to the lower class index
  int64_t top5_correct = 0;
};

struct PlanOptions {
  int batch = 1;
  int height = 224, width = 224;
  bool training = true;  // false: no dropout, no auxiliary heads, running averages in batch norm, no backward buffers
};

enum class ConvAlgorithm { kAuto, kDirect, kWinograd };  // kAuto: the backend's fixed rule on the shape

// What a layer's passes took, for reports.
struct PassSeconds {
  double forward = 0, data = 0, weights = 0;
};

// One thread at a time. A fault inside throws Failure. On a device the passes are queued: only calls that answer something wait.
class Plan {
 public:
  virtual ~Plan() = default;
  virtual const PlanOptions& options() const = 0;
  // Runs all layers. The plans of an engine share their buffers: a Forward of another plan ends this one's right to Loss and
  // Backward, which then throw. Training plans draw dropout masks from (seed, step, sample index, layer, unit).
  virtual void Forward(const LaneBatch& lane, uint64_t step) = 0;
  // Soft-max loss of the last Forward. Training plans also form d(loss)/d(logits), divided by `global_batch`, and those of the
  // auxiliary heads, times their weights.
  virtual LossSums Loss(const LaneBatch& lane, int global_batch) = 0;
  // The layers with parameters, in the order in which the backward pass finishes them (last layer first).
  virtual const std::vector<int>& backward_layers() const = 0;
  // Backward of layer `layer` of Network::layers: first data (d/d input), then weights, which overwrites ParameterStore::gradient
  // of its parameters; of batch norm's running averages with the lane's share in the global batch's mean and unbiased variance (see
  // ParameterInfo). Call for every layer, last to first; a layer without that pass does nothing.
  virtual void BackwardData(int layer) = 0;
  virtual void BackwardWeights(int layer) = 0;
  // After the backward pass of a training plan: false when an image, a hidden output or a gradient between layers was NaN or
  // infinite. Engines fuse a ReLU that turns NaN into 0, so a diverged network may still show a finite loss.
  virtual bool HiddenFinite() const = 0;
  virtual std::span<const float> logits() const = 0;  // [batch, classes] of the last Forward
  // After a non-finite loss: runs forward again looking at each layer; name of the first whose weights
  // or output are not finite, "input" when the images are not, or "".
  virtual std::string FirstNonFiniteLayer(const LaneBatch& lane, uint64_t step) = 0;
  // Seconds that each layer of Network::layers took in the last Forward, for reports; 0 for those left out.
  virtual std::span<const double> forward_seconds() const = 0;
  // Of every layer, as the device's own clock saw the passes that the host drove since the last Forward; waits for them. Empty where
  // only the caller can measure: the passes of the CPU return when they are done.
  virtual std::vector<PassSeconds> pass_seconds() const { return {}; }
  // "conv3_1 forward winograd", one line a layer and pass, for logs and the fingerprint.
  virtual std::vector<std::string> algorithms() const = 0;
};

struct EngineOptions {
  int threads = 1;
  uint64_t seed = 1;  // of dropout and initialisation
  int crop = 224;     // training input side: fixes the shape of the first fully connected layer
  ConvAlgorithm convolution = ConvAlgorithm::kAuto;
  std::atomic<int64_t>* progress = nullptr;  // counts the layers that Forward ran, for a watcher; outlives the engine
  // Devices only.
  Precision precision = Precision::kFp32;
  bool deterministic = true;  // leaves out algorithms whose bits differ from run to run
  int device = 0;             // number among the devices that this process sees
  CollectiveKind collective = CollectiveKind::kAuto;
  AlgorithmChoices* choices = nullptr;  // borrowed; nullptr: the engine times and keeps its own
  int ranks = 1;                        // of the job: their sums need memory of the device too
  int device_sharers = 1;               // ranks of the job on this device, this one included: each may use an equal part of it
  uint64_t device_free_bytes = 0;       // of a shared device, before any of them took some; 0: what the engine finds when it is made
  StartWatch* watch = nullptr;          // borrowed, hears of compiling plans and joining ranks, and may end it
};

// A network on a device: owns its parameters, compiles plans (a bounded LRU of them, sharing one arena).
class Engine {
 public:
  virtual ~Engine() = default;
  virtual const Network& network() const = 0;
  virtual ParameterStore& parameters() = 0;
  // The plan stays valid until the engine dies or more than kMaxPlans others were asked for since.
  virtual Result<Plan*> Compile(const PlanOptions& options) = 0;
  // Rows of the largest lanes that fit the free memory for a rank of like.batch rows, or the largest batch; 0: unknown (the CPU).
  // kUnavailable where no cut into lanes fits: says what was tried, and how many rows a rank may have.
  virtual Result<int> LargestBatch(const PlanOptions& /*like*/) const { return 0; }
  virtual std::string description() const = 0;  // "cpu (oneDNN 2.6.3, AVX-512, 2 threads)"
  // Whether lanes may bring bytes in place of normalised floats.
  virtual bool takes_pixels() const { return false; }
  // A trainer that runs whole steps of `training`, a training plan of this engine, on the engine's device; nullptr where the host
  // drives plans layer by layer (the CPU). Collective: every rank calls it. Borrows all three.
  virtual Result<std::unique_ptr<Trainer>> CreateTrainer(Plan& training, const TrainerOptions& options, Collective& collective);
  // Takes whole batches through `evaluation`, a plan of this engine that does not train; borrows it. `pixels`: they bring bytes.
  virtual Result<std::unique_ptr<Scorer>> CreateScorer(Plan& evaluation, bool pixels);
  static constexpr int kMaxPlans = 8;
};

// The oneDNN engine. Errors: out of memory, impossible shapes (names the layer).
Result<std::unique_ptr<Engine>> CreateCpuEngine(Network network, const EngineOptions& options);

}  // namespace plateau
