// Counts from shapes.
#include "worker/model/accounting.h"

namespace plateau {

Result<std::vector<LayerCost>> CountCosts(const Network& network, int height, int width) {
  const auto shapes = InferShapes(network, height, width);
  if (!shapes) return Fail(shapes.error());
  std::vector<LayerCost> costs;
  for (size_t i = 0; i < network.layers.size(); ++i) {
    const LayerDef& layer = network.layers[i];
    const LayerShape out = (*shapes)[i];
    const LayerShape in = InputShape(network, *shapes, height, width, static_cast<int>(i));
    const int64_t area = int64_t{out.height} * out.width;
    LayerCost cost{.output = out, .output_bytes = out.channels * area * int64_t{sizeof(float)}};
    const bool conv = layer.kind == LayerKind::kConvolution;
    if (layer.kind == LayerKind::kBatchNorm) cost.params = 2 * int64_t{in.channels};
    if (conv || layer.kind == LayerKind::kFullyConnected) {
      const int64_t products = int64_t{in.channels} * (conv ? int64_t{layer.kernel} * layer.kernel : int64_t{in.height} * in.width);
      cost.params = (products + (layer.bias ? 1 : 0)) * out.channels;
      cost.macs = products * out.channels * area;
    }
    costs.push_back(cost);
  }
  return costs;
}

double TrainFlops(const std::vector<LayerCost>& costs) {
  double flops = 0;
  for (size_t i = 0; i < costs.size(); ++i) flops += 2.0 * static_cast<double>(costs[i].macs) * (i == 0 ? 2 : 3);
  return flops;
}

}  // namespace plateau
