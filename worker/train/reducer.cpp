// Sums gradients over lanes and ranks in buckets, under the backward pass.
#include "worker/train/reducer.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "common/check.h"

namespace plateau {
namespace {

constexpr size_t kTotals = 8;

void PackTotals(const StepTotals& totals, std::span<float> out) {
  const double values[kTotals] = {totals.loss,
                                  static_cast<double>(totals.images),
                                  static_cast<double>(totals.top1_correct),
                                  static_cast<double>(totals.nonfinite),
                                  static_cast<double>(totals.stop),
                                  static_cast<double>(totals.fault),
                                  static_cast<double>(totals.validate),
                                  static_cast<double>(totals.checkpoint)};
  for (size_t i = 0; i < kTotals; ++i) out[i] = static_cast<float>(values[i]);
}

StepTotals UnpackTotals(std::span<const float> in) {
  const auto count = [&](size_t i) { return static_cast<int64_t>(in[i]); };
  return {.loss = in[0],
          .images = count(1),
          .top1_correct = count(2),
          .nonfinite = count(3),
          .stop = count(4),
          .fault = count(5),
          .validate = count(6),
          .checkpoint = count(7)};
}

void AddTo(std::span<float> sum, std::span<const float> values) {
  float* __restrict target = sum.data();
  const float* __restrict source = values.data();
  const size_t count = sum.size();
#pragma omp simd
  for (size_t i = 0; i < count; ++i) target[i] += source[i];
}

}  // namespace

GradientReducer::GradientReducer(ParameterStore& parameters, std::span<const int> backward_layers, int lanes,
                                 Collective& collective, const ReducerOptions& options)
    : parameters_(parameters),
      collective_(collective),
      lanes_(lanes),
      bucket_floats_(std::max<size_t>(options.bucket_bytes / sizeof(float), 1)),
      bucket_of_(static_cast<size_t>(parameters.count()), -1),
      sums_(static_cast<size_t>(parameters.count())),
      offset_of_(static_cast<size_t>(parameters.count())) {
  PLATEAU_CHECK(lanes >= 1, "lanes {}", lanes);
  Lay(backward_layers);
}

void GradientReducer::Lay(std::span<const int> backward_layers) {
  for (int p = 0; p < parameters_.count(); ++p) {
    const auto layer = static_cast<size_t>(parameters_.info(p).layer);
    if (parameters_of_.size() <= layer) parameters_of_.resize(layer + 1);
    parameters_of_[layer].push_back(p);
  }
  std::vector<int> open;
  size_t open_floats = 0;
  for (const int layer : backward_layers)
    for (const int p : parameters_of_.at(static_cast<size_t>(layer))) {
      const size_t floats = parameters_.gradient(p).size();
      if (floats >= bucket_floats_) {  // alone, so that it need not be copied
        Close({p}, false);
        continue;
      }
      open.push_back(p);
      open_floats += floats;
      if (open_floats >= bucket_floats_) {
        Close(std::exchange(open, {}), false);
        open_floats = 0;
      }
    }
  Close(std::move(open), true);
  for (size_t p = 0; p < bucket_of_.size(); ++p)
    PLATEAU_CHECK(bucket_of_[p] >= 0, "parameter {} is in no backward layer", parameters_.info(static_cast<int>(p)).name);
}

void GradientReducer::Close(std::vector<int> members, bool last) {
  Bucket bucket{.parameters = std::move(members)};
  const bool in_place = !last && lanes_ == 1 && (bucket.parameters.size() == 1 || collective_.world_size() == 1);
  size_t floats = last ? kTotals : 0;
  for (const int p : bucket.parameters) floats += parameters_.gradient(p).size();
  const int branches = std::bit_width(static_cast<unsigned>(lanes_ - 1)) + (lanes_ == 1 ? 1 : 0);  // most that are open at once
  if (!in_place) bucket.buffers.assign(static_cast<size_t>(branches), std::vector<float>(floats));
  bucket.values = in_place ? parameters_.gradient(bucket.parameters.front()) : std::span<float>(bucket.buffers.front());
  size_t offset = 0;
  for (const int p : bucket.parameters) {
    const size_t count = parameters_.gradient(p).size();
    sums_[static_cast<size_t>(p)] = in_place ? parameters_.gradient(p) : bucket.values.subspan(offset, count);
    offset_of_[static_cast<size_t>(p)] = offset;
    bucket_of_[static_cast<size_t>(p)] = static_cast<int>(buckets_.size());
    offset += count;
  }
  buckets_.push_back(std::move(bucket));  // moving a vector keeps the spans into it valid
}

void GradientReducer::Push(int layer, int lane) {
  if (static_cast<size_t>(layer) < parameters_of_.size())
    for (const int p : parameters_of_[static_cast<size_t>(layer)]) {
      Take(p, lane);
      if (lane != lanes_ - 1) continue;
      Bucket& bucket = buckets_[static_cast<size_t>(bucket_of_[static_cast<size_t>(p)])];
      ++bucket.filled;
      if (bucket.filled == bucket.parameters.size() && &bucket != &buckets_.back()) Start(bucket);
    }
  Progress();
}

std::span<float> GradientReducer::Branch(int parameter, int level) {
  Bucket& bucket = buckets_[static_cast<size_t>(bucket_of_[static_cast<size_t>(parameter)])];
  return std::span<float>(bucket.buffers[static_cast<size_t>(level)])
      .subspan(offset_of_[static_cast<size_t>(parameter)], parameters_.gradient(parameter).size());
}

// Open branches are the binary digits of the lanes taken: an even lane opens one, an odd one is added to it, and full branches
// merge.
void GradientReducer::Take(int parameter, int lane) {
  const std::span<const float> from = parameters_.gradient(parameter);
  if (from.data() == sums_[static_cast<size_t>(parameter)].data()) return;
  int open = std::popcount(static_cast<unsigned>(lane));
  if (lane % 2 == 0) {
    std::memcpy(Branch(parameter, open).data(), from.data(), from.size_bytes());
    ++open;
  } else {
    AddTo(Branch(parameter, open - 1), from);
    for (int rest = lane >> 1; (rest & 1) != 0; rest >>= 1, --open) AddTo(Branch(parameter, open - 2), Branch(parameter, open - 1));
  }
  if (lane != lanes_ - 1) return;
  for (; open > 1; --open) AddTo(Branch(parameter, open - 2), Branch(parameter, open - 1));
}

void GradientReducer::Start(Bucket& bucket) {
  if (collective_.world_size() == 1) return;
  for (size_t begin = 0; begin < bucket.values.size(); begin += bucket_floats_) {  // a large parameter goes in pieces
    const size_t count = std::min(bucket_floats_, bucket.values.size() - begin);
    bucket.pending.push_back(collective_.StartAllReduceSum(bucket.values.subspan(begin, count)));
  }
}

void GradientReducer::Progress() {
  for (size_t b = oldest_pending_; b < buckets_.size(); ++b) {
    bool done = true;
    for (auto& reduce : buckets_[b].pending) done &= reduce->Test();
    if (buckets_[b].pending.empty()) break;
    if (done && b == oldest_pending_) ++oldest_pending_;
  }
}

StepTotals GradientReducer::Finish(const StepTotals& of_rank) {
  Bucket& last = buckets_.back();
  const std::span<float> totals = last.values.last(kTotals);
  PackTotals(of_rank, totals);
  Start(last);
  for (Bucket& bucket : buckets_) {
    PLATEAU_CHECK(bucket.filled == bucket.parameters.size(), "a bucket misses {} gradients",
                  bucket.parameters.size() - bucket.filled);
    for (auto& reduce : bucket.pending) reduce->Wait();
    bucket.pending.clear();
    bucket.filled = 0;
  }
  oldest_pending_ = 0;
  return UnpackTotals(totals);
}

}  // namespace plateau
