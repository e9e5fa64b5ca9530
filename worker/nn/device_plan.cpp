// Layouts of a network on a device, and the lives of a plan's buffers.
#include "worker/nn/device_plan.h"

#include <algorithm>

#include "common/check.h"
#include "worker/nn/runnable.h"

namespace plateau {
namespace {

int64_t RoundUp(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Whether the backward pass reads input values again.
bool KeepsInput(LayerKind kind) {
  return kind == LayerKind::kConvolution || kind == LayerKind::kFullyConnected || kind == LayerKind::kBatchNorm ||
         kind == LayerKind::kLrn;
}

bool MultipliesInput(LayerKind kind) { return kind == LayerKind::kConvolution || kind == LayerKind::kFullyConnected; }

// Fills a DevicePlan step by step.
class Layout {
 public:
  Layout(const Network& network, const std::vector<LayerShape>& shapes, const PlanOptions& options, Precision precision)
      : network_(network), learns_(LearningLayers(network)) {
    plan_.options = options;
    plan_.precision = precision;
    plan_.input = {network.channels, options.height, options.width, DeviceStored(network.channels)};
    AddLayers(shapes);
    LinkReaders();
    if (options.training) PlaceMasks();
    AddBuffers();
    if (options.training) ShareGradients();
    plan_.memory = PackBuffers(plan_.uses);
  }
  DevicePlan Take() { return std::move(plan_); }

 private:
  void AddLayers(const std::vector<LayerShape>& shapes);
  void LinkReaders();
  void PlaceMasks();
  bool Delegates(int layer) const;
  void AddBuffers();
  void AddInput();
  void AddGradient(int layer);
  void ShareGradients();

  const LayerDef& Def(int layer) const { return network_.layers[static_cast<size_t>(layer)]; }
  DeviceLayer& At(int layer) { return plan_.layers[static_cast<size_t>(layer)]; }
  const DeviceLayer& At(int layer) const { return plan_.layers[static_cast<size_t>(layer)]; }
  int count() const { return static_cast<int>(network_.layers.size()); }
  bool training() const { return plan_.options.training; }
  bool IsHead(int layer) const { return std::ranges::find(plan_.heads, layer) != plan_.heads.end(); }
  bool HasReader(int layer, LayerKind kind) const { return Def(At(layer).readers[0].layer).kind == kind; }
  int64_t Bytes(const DeviceMap& map) const { return plan_.options.batch * map.values() * plan_.value_bytes(); }
  int Add(int64_t bytes, int first, int last) {
    plan_.uses.push_back({static_cast<size_t>(bytes), first, last});
    return static_cast<int>(plan_.uses.size()) - 1;
  }
  void Extend(int use, int last) {
    int& end = plan_.uses[static_cast<size_t>(use)].last;
    end = std::max(end, last);
  }
  static int ForwardMoment(int layer) { return layer + 1; }
  int LossMoment() const { return count() + 1; }
  int DataMoment(int layer) const { return count() + 2 + 2 * (count() - 1 - layer); }
  // The last moment that reads a layer's gradient for its own passes.
  int EndMoment(int layer) const { return DataMoment(layer) + (HasParameters(Def(layer)) ? 1 : 0); }
  // The same for a pool: the convolution in front may take its bias gradient from the pool's.
  int PoolEnd(int pool) const {
    const int input = Def(pool).inputs[0];
    return input >= 0 && At(input).pooled_bias ? EndMoment(input) : DataMoment(pool);
  }
  // The last moment that `reader` reads its input's values.
  int ReadMoment(int reader) const {
    const bool kept = training() && At(reader).backward && KeepsInput(Def(reader).kind);
    return kept ? EndMoment(reader) : ForwardMoment(reader);
  }

  const Network& network_;
  std::vector<bool> learns_;
  std::vector<bool> positive_;  // a value of the layer's output above 0 is where its gradient passes a ReLU
  DevicePlan plan_;
};

void Layout::AddLayers(const std::vector<LayerShape>& shapes) {
  for (int layer = 0; layer < count(); ++layer) {
    const LayerDef& def = Def(layer);
    const LayerShape& shape = shapes[static_cast<size_t>(layer)];
    DeviceLayer& added = plan_.layers.emplace_back();
    added.present = training() || def.auxiliary == 0;
    added.backward = training() && learns_[static_cast<size_t>(layer)];
    added.data_gradient = added.backward && std::ranges::any_of(def.inputs, [&](int input) {
                            return input >= 0 && learns_[static_cast<size_t>(input)];
                          });
    added.output = {shape.channels, shape.height, shape.width, DeviceStored(shape.channels)};
    if (added.present && HasParameters(def)) plan_.backward_layers.insert(plan_.backward_layers.begin(), layer);
  }
  plan_.heads.push_back(count() - 1);
  plan_.loss_weights.push_back(1);
  if (!training()) return;
  for (const AuxiliaryHead& head : network_.auxiliary) {
    plan_.heads.push_back(head.layer);
    plan_.loss_weights.push_back(head.loss_weight);
  }
}

void Layout::LinkReaders() {
  for (int layer = 0; layer < count(); ++layer) {
    if (!At(layer).present) continue;
    const LayerDef& def = Def(layer);
    for (int which = 0; which < static_cast<int>(def.inputs.size()); ++which) {
      const int input = def.inputs[static_cast<size_t>(which)];
      if (input >= 0) At(input).readers.push_back({.layer = layer, .which = which, .shares = def.kind == LayerKind::kAdd});
    }
  }
}

// Whether the ReLU of a layer is met behind its one reader.
bool Layout::Delegates(int layer) const {
  const auto alone = [this](int one) {
    return positive_[static_cast<size_t>(one)] && At(one).readers.size() == 1 && !IsHead(one) && Def(one).dropout == 0;
  };
  if (!alone(layer)) return false;
  const int reader = At(layer).readers[0].layer;
  if (Def(reader).kind == LayerKind::kMaxPool) return true;
  if (Def(reader).kind != LayerKind::kConcat) return false;
  return std::ranges::all_of(Def(reader).inputs, [&](int input) { return input >= 0 && alone(input); });
}

void Layout::PlaceMasks() {
  positive_.resize(static_cast<size_t>(count()));
  for (int layer = 0; layer < count(); ++layer) {
    const LayerDef& def = Def(layer);
    const bool joined = def.kind == LayerKind::kConcat &&
                        std::ranges::all_of(def.inputs, [this](int input) { return input >= 0 && Delegates(input); });
    positive_[static_cast<size_t>(layer)] = At(layer).backward && (def.relu || joined);
  }
  for (int layer = 0; layer < count(); ++layer) {
    if (!positive_[static_cast<size_t>(layer)]) continue;
    if (Delegates(layer)) {
      const int reader = At(layer).readers[0].layer;
      const bool pool = Def(reader).kind == LayerKind::kMaxPool;
      At(reader).shuts = At(reader).shuts || pool;
      At(layer).pooled_bias = pool && Def(layer).kind == LayerKind::kConvolution && Def(layer).bias;
      continue;
    }
    const bool one = At(layer).readers.size() == 1 && !IsHead(layer);
    At(layer).mask = one && MultipliesInput(Def(At(layer).readers[0].layer).kind) ? GradientMask::kReader : GradientMask::kOwn;
  }
}

void Layout::AddInput() {
  const int64_t floats = int64_t{plan_.options.batch} * network_.channels * plan_.options.height * plan_.options.width;
  plan_.images = Add(floats * 4, 0, 0);
  plan_.input_value = Add(Bytes(plan_.input), 0, 0);
  for (int layer = 0; layer < count(); ++layer)
    if (At(layer).present && std::ranges::find(Def(layer).inputs, -1) != Def(layer).inputs.end())
      Extend(plan_.input_value, ReadMoment(layer));
}

void Layout::AddBuffers() {
  AddInput();
  for (int layer = 0; layer < count(); ++layer) {
    DeviceLayer& at = At(layer);
    if (!at.present) continue;
    const LayerDef& def = Def(layer);
    const int now = ForwardMoment(layer);
    at.value = Add(Bytes(at.output), now, now);
    for (const DeviceReader& reader : at.readers) Extend(at.value, ReadMoment(reader.layer));
    if (IsHead(layer)) Extend(at.value, LossMoment());
    if (at.mask == GradientMask::kOwn) Extend(at.value, DataMoment(layer));
    if (!at.backward) continue;
    AddGradient(layer);
    if (def.kind == LayerKind::kMaxPool && at.data_gradient)
      at.winners = Add(plan_.options.batch * at.output.values(), now, PoolEnd(layer));
    if (def.kind == LayerKind::kBatchNorm) at.statistics = Add(int64_t{2} * at.output.stored * 4, now, EndMoment(layer));
  }
}

void Layout::AddGradient(int layer) {
  DeviceLayer& at = At(layer);
  const int64_t bytes = Bytes(at.output);
  const int data = DataMoment(layer);
  size_t parts = at.readers.size();
  int own = -1;  // a part that nobody else reads
  if (IsHead(layer)) {
    ++parts;
    own = at.loss_gradient = Add(bytes, LossMoment(), data);
  }
  for (DeviceReader& reader : at.readers) {
    if (reader.shares) continue;
    own = reader.gradient = Add(bytes, DataMoment(reader.layer), data);
  }
  // Batch norm that reads the images has no other place for its data gradient than over its own.
  const bool overwrites = Def(layer).dropout > 0 || (Def(layer).kind == LayerKind::kBatchNorm && !at.data_gradient);
  at.combines = at.mask == GradientMask::kOwn || parts > 1 || (overwrites && own < 0);
  if (own < 0 && at.combines) own = Add(bytes, data, data);
  if (own < 0) return;  // the only part is another layer's gradient
  at.gradient = own;
  Extend(own, Def(layer).kind == LayerKind::kMaxPool ? PoolEnd(layer) : EndMoment(layer));
}

// A shared gradient lives until its last reader's pass. Readers come after the layers that they read, so theirs are settled first.
void Layout::ShareGradients() {
  for (int layer = count() - 1; layer >= 0; --layer) {
    DeviceLayer& at = At(layer);
    if (!at.backward) continue;
    for (DeviceReader& reader : at.readers) {
      if (!reader.shares) continue;
      reader.gradient = At(reader.layer).gradient;
      if (at.gradient < 0) at.gradient = reader.gradient;
      Extend(reader.gradient, Def(layer).kind == LayerKind::kMaxPool ? PoolEnd(layer) : EndMoment(layer));
    }
  }
}

}  // namespace

int DeviceStored(int channels) { return static_cast<int>(RoundUp(channels, kDeviceChannelAlign)); }

DeviceParameters LayOutParameters(const Network& network, const std::vector<LayerShape>& shapes,
                                  const std::vector<ParameterInfo>& infos) {
  DeviceParameters parameters;
  for (const ParameterInfo& info : infos) {
    DeviceLayout layout{.rows = info.shape[0], .stored_rows = DeviceStored(static_cast<int>(info.shape[0]))};
    if (info.role == ParameterRole::kWeight) {
      const LayerDef& def = network.layers[static_cast<size_t>(info.layer)];
      const int input = def.inputs[0];
      const LayerShape in = input < 0 ? LayerShape{network.channels} : shapes[static_cast<size_t>(input)];
      const bool conv = def.kind == LayerKind::kConvolution;
      layout.channels = in.channels;
      layout.area = conv ? int64_t{def.kernel} * def.kernel : int64_t{in.height} * in.width;
      layout.stored_channels = DeviceStored(in.channels);
    }
    PLATEAU_CHECK(layout.rows * layout.channels * layout.area == info.CanonicalCount(), "{}: {} rows of {} x {}", info.name,
                  layout.rows, layout.channels, layout.area);
    parameters.layouts.push_back(layout);
    parameters.order.push_back(static_cast<int>(parameters.order.size()));
  }
  std::ranges::stable_sort(parameters.order, [&](int a, int b) {
    return infos[static_cast<size_t>(a)].layer > infos[static_cast<size_t>(b)].layer;
  });
  for (const int parameter : parameters.order) {
    DeviceLayout& layout = parameters.layouts[static_cast<size_t>(parameter)];
    layout.begin = parameters.total;
    parameters.total += RoundUp(layout.count(), kDeviceSpanAlign);
  }
  return parameters;
}

DevicePlan LayOutPlan(const Network& network, const std::vector<LayerShape>& shapes, const PlanOptions& options,
                      Precision precision) {
  return Layout(network, shapes, options, precision).Take();
}

}  // namespace plateau
