// A whole network in the naive loops.
#include <algorithm>
#include <utility>

#include "common/check.h"
#include "worker/nn/reference.h"

namespace plateau::reference {
namespace {

// A parameter as the operators take it: convolution weight [K,C,R,S], fully connected weight [O,I,1,1].
Map AsMap(const ParameterInfo& info, const std::vector<double>& values) {
  const bool conv = info.shape.size() == 4;
  Map map(static_cast<int>(info.shape[0]), static_cast<int>(info.shape[1]), conv ? static_cast<int>(info.shape[2]) : 1,
          conv ? static_cast<int>(info.shape[3]) : 1);
  PLATEAU_CHECK(map.values.size() == values.size(), "{}: {} values", info.name, values.size());
  map.values = values;
  return map;
}

void AddInto(Map& sum, Map&& part) {
  if (sum.values.empty())
    sum = std::move(part);
  else
    for (size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += part.values[i];
}

// One pass over one lane: what every layer gave, and the gradients as they come.
class Run {
 public:
  Run(const Network& network, const std::vector<std::vector<double>>& parameters, const LaneBatch& lane, int height, int width,
      bool training, uint64_t seed, uint64_t step)
      : network_(network), parameters_(parameters), lane_(lane), training_(training), seed_(seed), step_(step) {
    const auto shapes = InferShapes(network, height, width);
    PLATEAU_CHECK(shapes.has_value(), "{}", shapes.error().message);
    infos_ = ListParameters(network, *shapes);
    first_.assign(network.layers.size(), 0);
    for (size_t i = infos_.size(); i-- > 0;) first_[static_cast<size_t>(infos_[i].layer)] = i;
    const auto batch = static_cast<int>(lane.labels.size());
    images_ = Map(batch, network.channels, height, width);
    images_.values.assign(lane.images.begin(), lane.images.end());
    while (rows_ < batch && lane.weights[static_cast<size_t>(rows_)] > 0) ++rows_;
    outputs_.resize(network.layers.size());
    output_gradients_.resize(network.layers.size());
    gradients_.resize(infos_.size());
  }

  void Forward(size_t l);
  void Backward(size_t l, int global_batch);
  bool Includes(size_t l) const { return training_ || network_.layers[l].auxiliary == 0; }
  const Map& output(size_t l) const { return outputs_[l]; }
  double AddLoss(size_t l, double loss_weight, int global_batch) {
    auto loss = SoftmaxLoss(outputs_[l], lane_.labels, lane_.weights, global_batch);
    for (double& value : loss.gradient.values) value *= loss_weight;
    AddInto(output_gradients_[l], std::move(loss.gradient));
    return loss.loss;
  }
  std::vector<std::vector<double>> TakeGradients() { return std::move(gradients_); }

 private:
  const Map& Input(size_t l, size_t which = 0) const {
    const int input = network_.layers[l].inputs[which];
    return input < 0 ? images_ : outputs_[static_cast<size_t>(input)];
  }
  std::vector<const Map*> Inputs(size_t l) const {
    std::vector<const Map*> maps;
    for (size_t which = 0; which < network_.layers[l].inputs.size(); ++which) maps.push_back(&Input(l, which));
    return maps;
  }
  void PassDown(size_t l, size_t which, Map&& gradient) {
    const int input = network_.layers[l].inputs[which];
    if (input >= 0) AddInto(output_gradients_[static_cast<size_t>(input)], std::move(gradient));
  }
  std::vector<double> Bias(size_t l) const {
    const LayerDef& def = network_.layers[l];
    return def.bias ? parameters_[first_[l] + 1] : std::vector<double>(static_cast<size_t>(def.out_channels));
  }
  void BackwardBatchNorm(size_t l, const Map& dy, int global_batch);
  void BackwardProduct(size_t l, const Map& dy);

  const Network& network_;
  const std::vector<std::vector<double>>& parameters_;
  const LaneBatch& lane_;
  bool training_;
  uint64_t seed_, step_;
  int rows_ = 0;  // samples before the padding
  std::vector<ParameterInfo> infos_;
  std::vector<size_t> first_;  // parameter of each layer
  Map images_;
  std::vector<Map> outputs_, output_gradients_;
  std::vector<std::vector<double>> gradients_;
};

Window WindowOf(const LayerDef& def) { return {def.global ? 0 : def.kernel, def.stride, def.pad, def.ceil_mode}; }

void Run::Forward(size_t l) {
  const LayerDef& def = network_.layers[l];
  const Window window = WindowOf(def);
  const size_t p = first_[l];
  Map y;
  switch (def.kind) {
    case LayerKind::kConvolution: y = ConvForward(Input(l), AsMap(infos_[p], parameters_[p]), Bias(l), window); break;
    case LayerKind::kFullyConnected: y = FcForward(Input(l), AsMap(infos_[p], parameters_[p]), Bias(l)); break;
    case LayerKind::kMaxPool: y = PoolForward(Input(l), window); break;
    case LayerKind::kAveragePool: y = AveragePoolForward(Input(l), window); break;
    case LayerKind::kLrn: y = LrnForward(Input(l), def.lrn); break;
    case LayerKind::kBatchNorm: {
      const auto statistics =
          training_ ? BatchStatistics(Input(l), rows_) : ChannelStatistics{parameters_[p + 2], parameters_[p + 3], 0};
      y = BatchNormForward(Input(l), parameters_[p], parameters_[p + 1], statistics, def.bn_epsilon);
      break;
    }
    case LayerKind::kConcat: y = Concat(Inputs(l)); break;
    case LayerKind::kAdd: y = Add(Inputs(l)); break;
  }
  if (def.relu) Relu(y);
  if (training_ && def.dropout > 0) Dropout(y, def.dropout, static_cast<int>(l), seed_, step_, lane_.sample_index);
  outputs_[l] = std::move(y);
}

void Run::BackwardBatchNorm(size_t l, const Map& dy, int global_batch) {
  const size_t p = first_[l];
  PLATEAU_CHECK(training_, "{}: no gradients of running averages", network_.layers[l].name);
  auto d = BatchNormBackward(dy, Input(l), parameters_[p], rows_, network_.layers[l].bn_epsilon);
  auto statistics = BatchStatistics(Input(l), rows_);
  const auto count = static_cast<double>(statistics.count);
  const double share = static_cast<double>(rows_) / global_batch;
  for (double& mean : statistics.mean) mean *= share;
  for (double& variance : statistics.variance) variance *= share * count / std::max(count - 1, 1.0);
  gradients_[p] = std::move(d.scale);
  gradients_[p + 1] = std::move(d.shift);
  gradients_[p + 2] = std::move(statistics.mean);
  gradients_[p + 3] = std::move(statistics.variance);
  PassDown(l, 0, std::move(d.x));
}

void Run::BackwardProduct(size_t l, const Map& dy) {
  const LayerDef& def = network_.layers[l];
  const size_t p = first_[l];
  const Map w = AsMap(infos_[p], parameters_[p]);
  const bool conv = def.kind == LayerKind::kConvolution;
  auto gradients = conv ? ConvBackwardWeights(dy, Input(l), w, WindowOf(def)) : FcBackwardWeights(dy, Input(l), w);
  gradients_[p] = std::move(gradients.w.values);
  if (def.bias) gradients_[p + 1] = std::move(gradients.b);
  if (def.inputs[0] >= 0) PassDown(l, 0, conv ? ConvBackwardData(dy, w, Input(l), WindowOf(def)) : FcBackwardData(dy, w, Input(l)));
}

void Run::Backward(size_t l, int global_batch) {
  const LayerDef& def = network_.layers[l];
  Map dy = std::move(output_gradients_[l]);
  if (training_ && def.dropout > 0) Dropout(dy, def.dropout, static_cast<int>(l), seed_, step_, lane_.sample_index);
  if (def.relu) ReluBackward(outputs_[l], dy);
  switch (def.kind) {
    case LayerKind::kConvolution:
    case LayerKind::kFullyConnected: BackwardProduct(l, dy); break;
    case LayerKind::kMaxPool: PassDown(l, 0, PoolBackward(dy, Input(l), WindowOf(def))); break;
    case LayerKind::kAveragePool: PassDown(l, 0, AveragePoolBackward(dy, Input(l), WindowOf(def))); break;
    case LayerKind::kLrn: PassDown(l, 0, LrnBackward(dy, Input(l), def.lrn)); break;
    case LayerKind::kBatchNorm: BackwardBatchNorm(l, dy, global_batch); break;
    case LayerKind::kConcat:
      for (size_t which = 0, first = 0; which < def.inputs.size(); first += static_cast<size_t>(Input(l, which).c), ++which)
        PassDown(l, which, ConcatBackward(dy, Input(l, which), static_cast<int>(first)));
      break;
    case LayerKind::kAdd:
      for (size_t which = 0; which < def.inputs.size(); ++which) PassDown(l, which, Map(dy));
      break;
  }
}

}  // namespace

NetworkResult RunNetwork(const Network& network, const std::vector<std::vector<double>>& parameters, const LaneBatch& lane,
                         int height, int width, int global_batch, bool training, uint64_t seed, uint64_t step) {
  Run run(network, parameters, lane, height, width, training, seed, step);
  const size_t layers = network.layers.size();
  for (size_t l = 0; l < layers; ++l)
    if (run.Includes(l)) run.Forward(l);
  NetworkResult result{.logits = run.output(layers - 1)};
  result.loss = run.AddLoss(layers - 1, 1, global_batch);
  const bool has_batch_norm = std::ranges::find(network.layers, LayerKind::kBatchNorm, &LayerDef::kind) != network.layers.end();
  if (!training && has_batch_norm) return result;
  if (training)
    for (const AuxiliaryHead& head : network.auxiliary)
      run.AddLoss(static_cast<size_t>(head.layer), head.loss_weight, global_batch);
  for (size_t l = layers; l-- > 0;)
    if (run.Includes(l)) run.Backward(l, global_batch);
  result.gradients = run.TakeGradients();
  return result;
}

}  // namespace plateau::reference
