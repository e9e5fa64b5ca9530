// From a store to batches of one rank, in order, by a few decoding threads.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "common/error.h"
#include "common/job_spec.h"
#include "dataset/batch.h"
#include "dataset/shard_reader.h"

namespace plateau {

// How stored pixels become network input; part of every checkpoint.
struct Preprocessing {
  int scale_low = 256, scale_high = 256;   // shortest side S; evaluation uses scale_low
  int crop = 224;
  bool flip = true, colour = true;         // training only
  std::array<float, 3> mean{};             // RGB, 0..255
  std::array<float, 3> standard_deviation{1, 1, 1};  // 1 with normalize: mean
};
Preprocessing MakePreprocessing(const JobSpec& spec, const Manifest& manifest);

struct PipelineOptions {
  std::string split = "train";
  bool training = true;       // false: centre crop of the scaled image, source order, one pass, every rank its part, padded
  uint64_t seed = 1;
  int global_batch = 64;
  int rank = 0, world_size = 1;
  int rows = 64;              // rows of each delivered batch (>= the rank's rows); the rest is padding of weight 0
  int64_t first_batch = 0;    // training: the step to begin with; O(1)
  int threads = 1;            // decoding threads
  int queue_batches = 4;      // bound of batches decoded ahead
};

// Owns its threads. Next() and Recycle() from one thread. A record that cannot be read or decoded is an error naming it.
class Pipeline {
 public:
  static Result<std::unique_ptr<Pipeline>> Start(const StoreReader& store, const Preprocessing& preprocessing,
                                                 const PipelineOptions& options);
  virtual ~Pipeline() = default;   // stops the threads and waits for them
  // Blocks until the next batch is ready; nullptr at the end of a validation pass. Batches come in order.
  virtual Result<std::unique_ptr<Batch>> Next() = 0;
  virtual void Recycle(std::unique_ptr<Batch> batch) = 0;
  virtual int64_t batches_per_pass() const = 0;  // validation: the same on every rank
};

}  // namespace plateau
