// Counts operations and bytes of each pass.
#include "worker/bench_floor.h"

#include <algorithm>

namespace plateau {
namespace {

// Counts one layer.
class Counter {
 public:
  Counter(const Network& network, const std::vector<LayerShape>& shapes, const DevicePlan& plan, int layer)
      : network_(network), shapes_(shapes), plan_(plan), layer_(layer), def_(network.layers[static_cast<size_t>(layer)]) {}

  LayerFloor Count() const {
    LayerFloor floor;
    const DeviceLayer& own = plan_.layers[static_cast<size_t>(layer_)];
    if (!own.present) return floor;
    const double in = InputBytes(), out = MapBytes(own.output), weights = Weights();
    const bool product = def_.kind == LayerKind::kConvolution || def_.kind == LayerKind::kFullyConnected;
    const auto value = static_cast<double>(plan_.value_bytes());
    floor.forward = {Flops(), in + weights * value + out, true};
    if (own.data_gradient) floor.data = {product ? Flops() : 0, DataBytes(in, out, weights * value), true};
    if (own.backward && product) floor.weights = {Flops(), in + out + weights * sizeof(float), true};
    return floor;
  }

 private:
  double MapBytes(const DeviceMap& map) const {
    return static_cast<double>(plan_.options.batch) * static_cast<double>(map.values()) * static_cast<double>(plan_.value_bytes());
  }
  double InputBytes() const {
    double bytes = 0;
    for (const int input : def_.inputs) bytes += MapBytes(input < 0 ? plan_.input : plan_.layers[static_cast<size_t>(input)].output);
    return bytes;
  }
  LayerShape InShape() const { return InputShape(network_, shapes_, plan_.options.height, plan_.options.width, layer_); }
  double Weights() const {
    const LayerShape in = InShape();
    if (def_.kind == LayerKind::kConvolution) return double(def_.out_channels) * in.channels * def_.kernel * def_.kernel;
    if (def_.kind == LayerKind::kFullyConnected) return double(def_.out_channels) * in.channels * in.height * in.width;
    return 0;
  }
  double Flops() const {
    const LayerShape& out = shapes_[static_cast<size_t>(layer_)];
    return 2.0 * plan_.options.batch * Weights() * out.height * out.width;
  }
  // Products and pools read the gradient, norms also their input; a sum hands its gradient on as it lies.
  double DataBytes(double in, double out, double weights) const {
    switch (def_.kind) {
      case LayerKind::kConvolution:
      case LayerKind::kFullyConnected: return out + weights + in;
      case LayerKind::kMaxPool: return out + out / static_cast<double>(plan_.value_bytes()) + in;  // one byte names each winner
      case LayerKind::kLrn:
      case LayerKind::kBatchNorm: return out + 2 * in;
      case LayerKind::kAdd: return 0;
      case LayerKind::kAveragePool:
      case LayerKind::kConcat: return out + in;
    }
    return 0;
  }

  const Network& network_;
  const std::vector<LayerShape>& shapes_;
  const DevicePlan& plan_;
  int layer_;
  const LayerDef& def_;
};

}  // namespace

double PassFloor::Seconds(double flops_per_s, double bytes_per_s) const {
  return runs ? std::max(flops / flops_per_s, bytes / bytes_per_s) : 0;
}

std::vector<LayerFloor> FloorsOf(const Network& network, const std::vector<LayerShape>& shapes, const DevicePlan& plan) {
  std::vector<LayerFloor> floors;
  for (int layer = 0; layer < static_cast<int>(network.layers.size()); ++layer)
    floors.push_back(Counter(network, shapes, plan, layer).Count());
  return floors;
}

}  // namespace plateau
