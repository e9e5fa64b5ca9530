// Sums gradients over lanes and ranks in buckets, under the backward pass.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "worker/collective/collective.h"
#include "worker/nn/parameter.h"
#include "worker/nn/trainer.h"

namespace plateau {

struct ReducerOptions {
  size_t bucket_bytes = size_t{8} << 20;  // a bucket starts its reduction when it holds this much
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
