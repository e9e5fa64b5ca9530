// Sums gradients on the device over lanes and ranks.
#include "worker/backend/cuda/device_reducer.h"

#include <algorithm>
#include <bit>

#include "common/check.h"
#include "worker/backend/cuda/kernels/kernels.h"

namespace plateau::cuda {
namespace {

// Branches of the tree that are open at once, at most.
int Branches(int lanes) { return lanes == 1 ? 0 : std::bit_width(static_cast<unsigned>(lanes - 1)); }

}  // namespace

DeviceReducer::DeviceReducer(const CudaParameterStore& parameters, std::span<const int> backward_layers, int lanes,
                             const Stream& compute, RankSum& sum, int64_t bucket_bytes)
    : parameters_(parameters), compute_(compute), sum_(sum), lanes_(lanes), totals_(kTotals * sizeof(float)) {
  PLATEAU_CHECK(lanes >= 1 && !backward_layers.empty(), "{} lanes, {} layers", lanes, backward_layers.size());
  const std::vector<int>& order = parameters.order();
  size_t next = 0;
  Bucket open;
  for (const int layer : backward_layers) {
    PLATEAU_CHECK(next < order.size() && parameters.info(order[next]).layer == layer,
                  "layer {} of the backward pass is not next in the flat buffers", layer);
    while (next < order.size() && parameters.info(order[next]).layer == layer) ++next;
    open.end = next < order.size() ? parameters.layout(order[next]).begin : parameters.total();
    open.last_layer = layer;
    if ((open.end - open.begin) * static_cast<int64_t>(sizeof(float)) < bucket_bytes && layer != backward_layers.back()) continue;
    buckets_.push_back(open);
    open = {.begin = open.end};
  }
  PLATEAU_CHECK(next == order.size(), "{} of {} parameters are in no backward layer", order.size() - next, order.size());
  for (int b = 0; b < Branches(lanes); ++b) branches_.emplace_back(static_cast<size_t>(parameters.total()) * sizeof(float));
}

uint64_t DeviceReducer::ExtraBytes(int64_t total_floats, int lanes) {
  return static_cast<uint64_t>(Branches(lanes)) * static_cast<uint64_t>(total_floats) * sizeof(float);
}

float* DeviceReducer::sums() const { return branches_.empty() ? parameters_.gradients() : branches_.front().as<float>(); }

float* DeviceReducer::Branch(const Bucket& bucket, int level) const {
  return branches_[static_cast<size_t>(level)].as<float>() + bucket.begin;
}

// Open branches are the binary digits of the lanes taken: an even lane opens one, an odd one is added to it, and full branches merge.
void DeviceReducer::Take(const Bucket& bucket, int lane) {
  if (lanes_ == 1) return;
  const cudaStream_t stream = compute_.get();
  const float* from = parameters_.gradients() + bucket.begin;
  const int64_t count = bucket.end - bucket.begin;
  int open = std::popcount(static_cast<unsigned>(lane));
  if (lane % 2 == 0) {
    Copy(stream, Branch(bucket, open), from, count);
    ++open;
  } else {
    AddTo(stream, Branch(bucket, open - 1), from, count);
    for (int rest = lane >> 1; (rest & 1) != 0; rest >>= 1, --open)
      AddTo(stream, Branch(bucket, open - 2), Branch(bucket, open - 1), count);
  }
  if (lane != lanes_ - 1) return;
  for (; open > 1; --open) AddTo(stream, Branch(bucket, open - 2), Branch(bucket, open - 1), count);
}

void DeviceReducer::Push(int layer, int lane) {
  const auto bucket = std::find_if(buckets_.begin(), buckets_.end(), [&](const Bucket& b) { return b.last_layer == layer; });
  if (bucket == buckets_.end()) return;
  Take(*bucket, lane);
  if (lane != lanes_ - 1 || &*bucket == &buckets_.back()) return;
  const Stretch stretch{sums() + bucket->begin, bucket->end - bucket->begin};
  sum_.Start({&stretch, 1});
}

void DeviceReducer::Finish() {
  const Bucket& last = buckets_.back();
  const Stretch stretches[] = {{sums() + last.begin, last.end - last.begin}, {totals(), kTotals}};
  sum_.Start(stretches);
  sum_.Finish();
}

}  // namespace plateau::cuda
