// From a store to batches of one rank, in order, by a few decoding threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "common/error.h"
#include "dataset/batch.h"
#include "dataset/preprocessing.h"
#include "dataset/shard_reader.h"

namespace plateau {

struct PipelineOptions {
  std::string split = "train";
  bool training = true;  // false: centre crop of the scaled image, source order, one pass, every rank its part, padded
  uint64_t seed = 1;
  int global_batch = 64;
  int rank = 0, world_size = 1;
  int rows = 64;            // rows of each delivered batch (>= the rank's rows); the rest is padding of weight 0
  int64_t first_batch = 0;  // the step to begin with; O(1)
  int threads = 1;          // decoding threads
  int queue_batches = 4;    // bound of batches decoded ahead
  bool pixels = false;      // batches hold bytes and scales in place of floats
  std::atomic<int64_t>* progress = nullptr;  // counts images decoded, for a watcher; outlives the pipeline
};

// Owns its threads; the store must live longer. Next(), Recycle() and Seek() from one thread.
// Batch b holds positions [b*global_batch, (b+1)*global_batch) of the stream of samples (training) or of the split in source order
// (validation), and this rank's rows of it are RankRows(global_batch, rank, world_size).
class Pipeline {
 public:
  // Errors: an unknown or empty split, a crop larger than the scale, fewer rows than the rank's part.
  static Result<std::unique_ptr<Pipeline>> Start(const StoreReader& store, const Preprocessing& preprocessing,
                                                 const PipelineOptions& options);
  virtual ~Pipeline() = default;  // stops the threads and waits for them: at most one image each
  // Blocks until the next batch is ready; nullptr at the end of a validation pass. Batches come in order.
  // A record that cannot be read or decoded is an error that names it, in place of its batch and of all later ones; when a batch
  // has several, the first row's. Seek() clears it.
  virtual Result<std::unique_ptr<Batch>> Next() = 0;
  // Gives a batch back to be filled again.
  virtual void Recycle(std::unique_ptr<Batch> batch) = 0;
  // Goes on with batch `number`: a step of training, or 0 for a new validation pass. Decoding ahead begins at once, also after a
  // finished pass, so that a Seek right after it has the next pass's first batches ready when they are wanted. O(1) in `number`.
  virtual void Seek(int64_t number) = 0;
  virtual int64_t batches_per_pass() const = 0;  // validation: the same on every rank; training: of an epoch, rounded up
};

}  // namespace plateau
