// Sums gradients over lanes and ranks in buckets, under the backward pass.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "worker/collective/collective.h"
#include "worker/nn/parameter.h"

namespace plateau {

struct ReducerOptions {
  size_t bucket_bytes = size_t{8} << 20;  // a bucket starts its reduction when it holds this much
};

// What a rank adds to a step besides gradients; the sums over ranks travel in the last bucket, so that every rank decides alike.
// Counts are exact up to 2^24.
struct StepTotals {
  double loss = 0;  // sum of -log p(label); the mean is loss / images
  int64_t images = 0;
  int64_t top1_correct = 0;
  int64_t nonfinite = 0;   // ranks whose loss, hidden outputs or gradients are NaN or infinite
  int64_t stop = 0;        // ranks that were asked to stop
  int64_t fault = 0;       // ranks that cannot go on (rank 0: a checkpoint could not be written)
  int64_t validate = 0;    // rank 0: a time-based validation is due
  int64_t checkpoint = 0;  // rank 0: a time-based or ordered checkpoint is due
};

// Buckets follow the backward order. A large parameter of a single-lane step is reduced where it lies; small ones are copied
// together. Lanes are added up in a balanced binary tree, ((0+1)+(2+3))+..., which the collective continues over ranks: a batch cut
// into the same lanes gives the same bits on 1, 2, 4, ... ranks when every rank holds 1, 2, 4, ... of them. Memory is allocated in
// the constructor. Borrows both arguments. Training thread only.
class GradientReducer {
 public:
  // `backward_layers`: layers with parameters in the order in which Push names them. `lanes`: of this rank.
  GradientReducer(ParameterStore& parameters, std::span<const int> backward_layers, int lanes, Collective& collective,
                  const ReducerOptions& options = {});

  // The store's gradients of `layer` are those of `lane`; afterwards they may be overwritten by the next lane. Layers in backward
  // order, lane after lane; a layer without parameters adds nothing. Advances reductions under way.
  void Push(int layer, int lane);
  // Starts the last bucket with this rank's totals, waits for every bucket; the sums over ranks.
  StepTotals Finish(const StepTotals& of_rank);
  // The sum over lanes and ranks, in native layout: valid from Finish() to the next step's first Push.
  std::span<const float> gradient(int parameter) const { return sums_[static_cast<size_t>(parameter)]; }
  int buckets() const { return static_cast<int>(buckets_.size()); }

 private:
  struct Bucket {
    std::vector<int> parameters;
    std::vector<std::vector<float>> buffers;  // [0] is the sum, others hold open branches; none: reduced where it lies
    std::span<float> values;
    size_t filled = 0;  // parameters pushed by the last lane
    std::vector<std::unique_ptr<PendingReduce>> pending;
  };
  void Lay(std::span<const int> backward_layers);
  void Close(std::vector<int> parameters, bool last);
  void Take(int parameter, int lane);
  std::span<float> Branch(int parameter, int level);
  void Start(Bucket& bucket);
  void Progress();

  ParameterStore& parameters_;
  Collective& collective_;
  int lanes_;
  size_t bucket_floats_;
  std::vector<Bucket> buckets_;
  std::vector<int> bucket_of_;                   // by parameter
  std::vector<std::vector<int>> parameters_of_;  // by layer
  std::vector<std::span<float>> sums_;           // by parameter
  std::vector<size_t> offset_of_;                // by parameter, in its bucket's buffers
  size_t oldest_pending_ = 0;
};

}  // namespace plateau
