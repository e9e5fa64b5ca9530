// Small networks of every shape that the papers have: inception with an auxiliary head, residual blocks, LRN, odd channel counts.
#pragma once

#include "tests/worker/backend/engine_fixture.h"

namespace plateau {

// Builds a table; each call adds one layer and gives its number.
class TableBuilder {
 public:
  TableBuilder(std::string name, int classes, int channels = 3) {
    network_.name = std::move(name);
    network_.classes = classes;
    network_.channels = channels;
  }
  int Add(LayerDef def) {
    def.auxiliary = auxiliary_;
    network_.layers.push_back(std::move(def));
    return static_cast<int>(network_.layers.size()) - 1;
  }
  int Conv(int input, int channels, int kernel, int stride, int pad, bool relu = true, bool bias = true) {
    return Add({.kind = LayerKind::kConvolution,
                .name = Name("conv"),
                .inputs = {input},
                .out_channels = channels,
                .kernel = kernel,
                .stride = stride,
                .pad = pad,
                .bias = bias,
                .relu = relu});
  }
  int Fc(int input, int units, bool relu, double dropout = 0) {
    return Add({.kind = LayerKind::kFullyConnected,
                .name = Name("fc"),
                .inputs = {input},
                .out_channels = units,
                .relu = relu,
                .dropout = dropout});
  }
  int MaxPool(int input, int kernel, int stride, int pad, bool ceil_mode = false) {
    return Add({.kind = LayerKind::kMaxPool,
                .name = Name("pool"),
                .inputs = {input},
                .kernel = kernel,
                .stride = stride,
                .pad = pad,
                .ceil_mode = ceil_mode});
  }
  int AveragePool(int input, int kernel, int stride) {
    return Add({.kind = LayerKind::kAveragePool, .name = Name("pool"), .inputs = {input}, .kernel = kernel, .stride = stride});
  }
  int GlobalPool(int input, double dropout = 0) {
    return Add({.kind = LayerKind::kAveragePool, .name = Name("pool"), .inputs = {input}, .global = true, .dropout = dropout});
  }
  int Lrn(int input, const LrnDef& lrn = {}) {
    return Add({.kind = LayerKind::kLrn, .name = Name("lrn"), .inputs = {input}, .lrn = lrn});
  }
  int BatchNorm(int input, bool relu) {
    return Add({.kind = LayerKind::kBatchNorm, .name = Name("bn"), .inputs = {input}, .relu = relu});
  }
  int Concat(std::vector<int> inputs) {
    return Add({.kind = LayerKind::kConcat, .name = Name("concat"), .inputs = std::move(inputs)});
  }
  int Sum(std::vector<int> inputs, bool relu) {
    return Add({.kind = LayerKind::kAdd, .name = Name("add"), .inputs = std::move(inputs), .relu = relu});
  }
  // Layers added from here on belong to auxiliary classifier `number`, 0 to the main path.
  void Auxiliary(int number) { auxiliary_ = number; }
  void Head(int layer, double loss_weight) { network_.auxiliary.push_back({layer, loss_weight}); }
  int classes() const { return network_.classes; }
  Network Finish() { return network_; }

 private:
  std::string Name(const char* kind) const { return fmt::format("{}{}", kind, network_.layers.size()); }
  Network network_;
  int auxiliary_ = 0;
};

inline int InceptionBlock(TableBuilder& table, int input) {
  const int one = table.Conv(input, 16, 1, 1, 0);
  const int three = table.Conv(table.Conv(input, 24, 1, 1, 0), 32, 3, 1, 1);
  const int five = table.Conv(table.Conv(input, 16, 1, 1, 0), 16, 5, 1, 2);
  const int pooled = table.Conv(table.MaxPool(input, 3, 1, 1, true), 16, 1, 1, 0);
  return table.Concat({one, three, five, pooled});
}

// For images of 32 x 32.
inline Network InceptionNetwork(int classes, double dropout = 0.4) {
  TableBuilder table("inception", classes);
  const int stem = table.Lrn(table.MaxPool(table.Conv(-1, 16, 7, 2, 3), 3, 2, 0, true), {.alpha = 0.05});
  const int first = InceptionBlock(table, stem);
  table.Auxiliary(1);
  const int hidden = table.Fc(table.Conv(table.AveragePool(first, 5, 3), 16, 1, 1, 0), 32, true, dropout);
  table.Head(table.Fc(hidden, classes, false), 0.3);
  table.Auxiliary(0);
  const int second = InceptionBlock(table, first);
  table.Auxiliary(2);
  table.Head(table.Fc(table.GlobalPool(second), classes, false), 0.2);
  table.Auxiliary(0);
  const int third = InceptionBlock(table, table.MaxPool(second, 3, 2, 0, true));
  table.Fc(table.GlobalPool(third, dropout), classes, false);
  return table.Finish();
}

inline int BasicBlock(TableBuilder& table, int input, int channels, int stride) {
  const int a = table.BatchNorm(table.Conv(input, channels, 3, stride, 1, false, false), true);
  const int b = table.BatchNorm(table.Conv(a, channels, 3, 1, 1, false, false), false);
  const int shortcut = stride == 1 ? input : table.BatchNorm(table.Conv(input, channels, 1, stride, 0, false, false), false);
  return table.Sum({b, shortcut}, true);
}

// For images of 32 x 32.
inline Network ResidualNetwork(int classes) {
  TableBuilder table("residual", classes);
  const int stem = table.MaxPool(table.BatchNorm(table.Conv(-1, 16, 7, 2, 3, false, false), true), 3, 2, 1);
  int block = BasicBlock(table, BasicBlock(table, stem, 16, 1), 16, 1);
  block = BasicBlock(table, BasicBlock(table, block, 32, 2), 32, 1);
  table.Fc(table.GlobalPool(block), classes, false);
  return table.Finish();
}

// For gray images of 28 x 28: channel counts that fill no block, in front of fully connected layers.
inline Network OddNetwork(int classes) {
  TableBuilder table("odd", classes, 1);
  const int first = table.MaxPool(table.Conv(-1, 6, 5, 1, 2), 2, 2, 0);
  const int second = table.MaxPool(table.Conv(first, 20, 5, 1, 0), 2, 2, 0);
  table.Fc(table.Fc(second, 50, true), classes, false);
  return table.Finish();
}

// Every way in which gradients meet: a layer read by three, added to itself, sums of sums, maps of odd width joined, a ReLU in
// front of a join, and a join of the images' own readers.
inline Network TangledNetwork(int classes) {
  TableBuilder table("tangled", classes);
  const int a = table.Conv(-1, 16, 3, 2, 1), b = table.Conv(-1, 16, 5, 2, 2, false);
  const int sum = table.Sum({a, b}, true);
  const int twice = table.Sum({sum, sum}, false);
  const int more = table.Sum({table.Conv(twice, 16, 1, 1, 0), twice, sum}, false);
  const int odd = table.Conv(more, 10, 3, 1, 1), even = table.Conv(twice, 16, 1, 1, 0, false);
  const int joined = table.Concat({odd, even, more});
  const int hidden = table.Fc(table.MaxPool(joined, 3, 2, 1), 32, true, 0.3);
  table.Fc(hidden, classes, false);
  return table.Finish();
}

// Every kind of layer that may read the images does: none of them passes a gradient on.
inline Network DirectNetwork(int classes) {
  TableBuilder table("direct", classes);
  const int normal = table.Conv(table.BatchNorm(-1, false), 16, 3, 2, 1);
  const int pooled = table.Conv(table.MaxPool(-1, 2, 2, 0), 16, 1, 1, 0),
            mean = table.Conv(table.AveragePool(-1, 2, 2), 16, 3, 1, 1);
  const int joined = table.Conv(table.Concat({-1, table.Lrn(-1)}), 16, 5, 2, 2);
  const int doubled = table.Conv(table.Sum({-1, -1}, true), 16, 3, 2, 1);
  const int maps = table.Sum({normal, pooled, mean, joined, doubled}, true);
  table.Fc(table.Sum({table.Fc(maps, 32, false), table.Fc(table.GlobalPool(maps), 32, false)}, true), classes, false);
  return table.Finish();
}

}  // namespace plateau
