// Sums gradients on the device over lanes and ranks, in buckets, under the backward pass.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/backend/cuda/cuda_parameters.h"
#include "worker/backend/cuda/device_reducer_sum.h"
#include "worker/backend/cuda/kernels/types.h"

namespace plateau::cuda {

inline constexpr int64_t kBucketBytes = int64_t{16} << 20;  // a bucket starts its sum when it holds this much

// Buckets are stretches of the flat gradients, which lie in backward order. Lanes are added up in the same balanced binary tree as on
// the CPU (worker/train/reducer.h). All calls queue on the computing stream and may be captured, but for what `sum` does. Memory is
// allocated in the constructor. Borrows all. Training thread only.
class DeviceReducer {
 public:
  // `backward_layers`: layers with parameters in the order in which Push names them.
  DeviceReducer(const CudaParameterStore& parameters, std::span<const int> backward_layers, int lanes, const Stream& compute, RankSum& sum,
                int64_t bucket_bytes = kBucketBytes);

  // The gradients of `layer` that were queued last are those of `lane`. Layers in backward order, lane after lane; a layer without
  // parameters adds nothing.
  void Push(int layer, int lane);
  // This rank's part of the sums of a step, kTotals floats: to be written before Finish, summed over ranks behind it.
  float* totals() const { return totals_.as<float>(); }
  // Begins the last bucket, with the totals. What is queued from now on sees all sums.
  void Finish();
  // The sums over lanes and ranks, laid out as the store's gradients.
  const float* gradients() const { return sums(); }
  int buckets() const { return static_cast<int>(buckets_.size()); }
  // Device memory beyond the store's.
  static uint64_t ExtraBytes(int64_t total_floats, int lanes);

 private:
  struct Bucket {
    int64_t begin = 0, end = 0;  // floats
    int last_layer = 0;
  };
  void Take(const Bucket& bucket, int lane);
  float* Branch(const Bucket& bucket, int level) const;
  float* sums() const;

  const CudaParameterStore& parameters_;
  const Stream& compute_;
  RankSum& sum_;
  int lanes_;
  std::vector<Bucket> buckets_;
  std::vector<DeviceBuffer> branches_;  // [0] becomes the sum; none for one lane, which is summed where it lies
  DeviceBuffer totals_;
};

}  // namespace plateau::cuda
