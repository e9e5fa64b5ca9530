// A trained network ready to run on images one by one: for predictions and features.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/file.h"
#include "common/pixel_scale.h"
#include "worker/backend/device/device.h"
#include "worker/nn/plan.h"
#include "worker/nn/recorded_choices.h"
#include "worker/train/trained_model.h"

namespace plateau {

// The layers that layer `name` is computed from, sibling branches left out, and its output as the last: a map averaged over its places, so that every layer gives a vector; a
// fully connected layer without its ReLU, which engines do not run behind the last layer, and without dropout. Auxiliary
// classifiers are left out. kNotFound names the nearest layer.
Result<Network> CutNetwork(const Network& network, const std::string& name, int crop);

// Owns an engine. One thread at a time.
class Inference {
 public:
  // `layer`: whose outputs Run gives, ReLU included; empty: the logits. `batch`: most images of one Run. A device runs the algorithms
  // that the model's checkpoint recorded, then those of the machine's file, to which `files` lets it add what it had to time. Errors
  // as of the engine and FillParameters.
  static Result<Inference> Make(FileSystem& files, const TrainedModel& model, const std::string& layer, int batch, int threads,
                                const Compute& compute = {});
  // As the engine describes itself, and "bf16".
  std::string device() const { return engine_->description(); }
  const std::string& precision() const { return precision_; }
  int values() const { return values_; }  // of each image
  int batch() const { return batch_; }
  size_t image_values() const { return image_values_; }  // C * crop * crop
  // Whether images may come as bytes.
  bool takes_pixels() const { return engine_->takes_pixels(); }
  // images [rows, C, crop, crop], normalised, rows <= batch. The result, [rows, values()], stays until the next call.
  std::span<const float> Run(std::span<const float> images, int rows);
  // Of the bytes that stand for such images, [rows, C, crop, crop] and [rows], the same result bit for bit.
  std::span<const float> Run(std::span<const uint8_t> pixels, std::span<const PixelScale> scales, int rows);

 private:
  std::span<const float> Answer(const LaneBatch& images, int rows);

  std::unique_ptr<RecordedChoices> choices_;  // of an engine on a device
  std::unique_ptr<Engine> engine_;
  std::string precision_;
  Plan* plan_ = nullptr;
  int values_ = 0, batch_ = 0;
  size_t image_values_ = 0;
  bool rectify_ = false;  // the ReLU of a fully connected layer
  std::vector<float> images_, weights_, output_;
  std::vector<uint8_t> pixels_;
  std::vector<PixelScale> scales_;
  std::vector<int32_t> labels_;
  std::vector<uint64_t> index_;
};

// exp(x) / sum exp(x), in double precision.
std::vector<double> Softmax(std::span<const float> logits);

}  // namespace plateau
