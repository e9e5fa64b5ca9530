// Layers of our own kernels alone: pools, normalisations and joins.
#include <algorithm>

#include "common/check.h"
#include "worker/backend/cuda/cuda_layer.h"
#include "worker/backend/cuda/kernels/kernels.h"

namespace plateau::cuda {
namespace {

constexpr size_t kMostParts = 8;    // of SumMaps
constexpr int kLargestWindow = 15;  // of a max pool, whose winners are bytes

PoolWindow WindowOf(const LayerPlace& place) {
  const LayerDef& def = place.def();
  if (def.global) return {.kernel = std::max(place.in().height, place.in().width), .stride = 1, .pad = 0};
  return {.kernel = def.kernel, .stride = def.stride, .pad = def.pad};
}

class CudaMaxPool final : public CudaLayer {
 public:
  explicit CudaMaxPool(const LayerPlace& place)
      : stream_(place.context.libraries->stream().get()), window_(WindowOf(place)), relu_(place.at().shuts) {
    if (window_.kernel > kLargestWindow)
      throw Failure(ErrorCode::kUnsupported, fmt::format("layer {}: a max pool's window of {} is above {} on CUDA; use the CPU",
                                                         place.def().name, window_.kernel, kLargestWindow));
  }
  void Forward(const LaneFigures& lane) override {
    MaxPoolForward(stream_, maps_.inputs[0], window_, relu_, maps_.output, maps_.winners, lane.nonfinite);
  }
  void BackwardData(const LaneFigures& lane) override {
    MaxPoolBackward(stream_, maps_.output_gradient, maps_.winners, window_, maps_.input_gradients[0], lane.nonfinite);
  }

 private:
  cudaStream_t stream_;
  PoolWindow window_;
  bool relu_;
};

class CudaAveragePool final : public CudaLayer {
 public:
  explicit CudaAveragePool(const LayerPlace& place)
      : stream_(place.context.libraries->stream().get()), window_(WindowOf(place)) {}
  void Forward(const LaneFigures&) override { AveragePoolForward(stream_, maps_.inputs[0], window_, maps_.output); }
  void BackwardData(const LaneFigures&) override {
    AveragePoolBackward(stream_, maps_.output_gradient, window_, maps_.input_gradients[0]);
  }

 private:
  cudaStream_t stream_;
  PoolWindow window_;
};

class CudaLrn final : public CudaLayer {
 public:
  explicit CudaLrn(const LayerPlace& place) : stream_(place.context.libraries->stream().get()) {
    const LrnDef& lrn = place.def().lrn;
    lrn_ = {.size = lrn.size, .k = lrn.k, .alpha = lrn.alpha, .beta = lrn.beta};
  }
  void Forward(const LaneFigures&) override { LrnForward(stream_, maps_.inputs[0], lrn_, maps_.output); }
  void BackwardData(const LaneFigures&) override {
    LrnBackward(stream_, maps_.inputs[0], maps_.output_gradient, lrn_, maps_.input_gradients[0]);
  }

 private:
  cudaStream_t stream_;
  LrnWindow lrn_;
};

// In training with the statistics of the lane's samples, else with the running averages. The data pass makes the gradients of scale
// and shift too.
class CudaBatchNorm final : public CudaLayer {
 public:
  explicit CudaBatchNorm(const LayerPlace& place)
      : stream_(place.context.libraries->stream().get()),
        store_(*place.context.parameters),
        scale_(place.parameter()),
        epsilon_(static_cast<float>(place.def().bn_epsilon)),
        relu_(place.def().relu),
        training_(place.plan.options.training),
        scratch_(training_ ? static_cast<size_t>(BatchNormScratch(ShapeOf(place.in(), place.plan.options.batch))) : 0) {}
  size_t workspace_bytes() const override { return scratch_; }
  void Forward(const LaneFigures& lane) override {
    const Map& x = maps_.inputs[0];
    const float* mean = training_ ? maps_.statistics : store_.weight_at(scale_ + 2);
    const float* variance = training_ ? maps_.statistics + x.shape.stored : store_.weight_at(scale_ + 3);
    if (training_)
      BatchNormStatistics(stream_, x, lane.rows, maps_.workspace, maps_.statistics, maps_.statistics + x.shape.stored,
                          lane.nonfinite);
    BatchNormForward(stream_, x, store_.weight_at(scale_), store_.weight_at(scale_ + 1), mean, variance, epsilon_, relu_,
                     maps_.output);
  }
  void BackwardData(const LaneFigures& lane) override {
    const Map& x = maps_.inputs[0];
    const Map& dx = maps_.input_gradients[0].data != nullptr ? maps_.input_gradients[0] : maps_.output_gradient;
    BatchNormBackward(stream_, x, maps_.output_gradient, store_.weight_at(scale_), maps_.statistics,
                      maps_.statistics + x.shape.stored, epsilon_, lane.rows, maps_.workspace, dx, store_.gradient_at(scale_),
                      store_.gradient_at(scale_ + 1), lane.nonfinite);
  }
  void BackwardWeights(const LaneFigures& lane) override {
    const MapShape& shape = maps_.inputs[0].shape;
    BatchNormShare(stream_, maps_.statistics, maps_.statistics + shape.stored, shape.stored,
                   int64_t{lane.rows} * shape.h * shape.w, lane.share, store_.gradient_at(scale_ + 2),
                   store_.gradient_at(scale_ + 3));
  }

 private:
  cudaStream_t stream_;
  CudaParameterStore& store_;
  int scale_;
  float epsilon_;
  bool relu_, training_;
  size_t scratch_;
};

class CudaConcat final : public CudaLayer {
 public:
  explicit CudaConcat(const LayerPlace& place) : stream_(place.context.libraries->stream().get()) {}
  void Forward(const LaneFigures&) override {
    int from = 0;
    for (const Map& part : maps_.inputs) {
      CopyChannelsIn(stream_, part, from, maps_.output);
      from += part.shape.channels;
    }
  }
  void BackwardData(const LaneFigures&) override {
    int from = 0;
    for (size_t which = 0; which < maps_.inputs.size(); ++which) {
      if (maps_.input_gradients[which].data != nullptr)
        CopyChannelsOut(stream_, maps_.output_gradient, from, maps_.input_gradients[which]);
      from += maps_.inputs[which].shape.channels;
    }
  }

 private:
  cudaStream_t stream_;
};

// Hands its gradient on as it lies.
class CudaAdd final : public CudaLayer {
 public:
  explicit CudaAdd(const LayerPlace& place) : stream_(place.context.libraries->stream().get()), relu_(place.def().relu) {}
  void Forward(const LaneFigures&) override { SumAll(stream_, maps_.inputs, relu_, Map{}, maps_.output, nullptr); }
  void BackwardData(const LaneFigures&) override {}

 private:
  cudaStream_t stream_;
  bool relu_;
};

}  // namespace

std::unique_ptr<CudaLayer> MakeMapLayer(const LayerPlace& place) {
  switch (place.def().kind) {
    case LayerKind::kMaxPool: return std::make_unique<CudaMaxPool>(place);
    case LayerKind::kAveragePool: return std::make_unique<CudaAveragePool>(place);
    case LayerKind::kLrn: return std::make_unique<CudaLrn>(place);
    case LayerKind::kBatchNorm: return std::make_unique<CudaBatchNorm>(place);
    case LayerKind::kConcat: return std::make_unique<CudaConcat>(place);
    case LayerKind::kAdd: return std::make_unique<CudaAdd>(place);
    case LayerKind::kConvolution:
    case LayerKind::kFullyConnected: break;
  }
  PLATEAU_CHECK(false, "layer kind {}", static_cast<int>(place.def().kind));
}

std::unique_ptr<CudaLayer> MakeLayer(const LayerPlace& place) {
  const LayerKind kind = place.def().kind;
  const bool product = kind == LayerKind::kConvolution || kind == LayerKind::kFullyConnected;
  return product ? MakeProductLayer(place) : MakeMapLayer(place);
}

void SumAll(cudaStream_t stream, std::vector<Map> parts, bool relu, const Map& mask, const Map& out, int32_t* nonfinite) {
  // A part that is the sum's own place must be read before it is written.
  const auto own = std::ranges::find(parts, out.data, &Map::data);
  if (parts.size() > kMostParts && own != parts.end()) std::rotate(parts.begin(), own, own + 1);
  while (parts.size() > kMostParts) {
    SumMaps(stream, std::span(parts).first(kMostParts), false, Map{}, out);
    parts.erase(parts.begin(), parts.begin() + kMostParts - 1);
    parts.front() = out;
  }
  SumMaps(stream, parts, relu, mask, out, nonfinite);
}

}  // namespace plateau::cuda
