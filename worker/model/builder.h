// Appends layers one after the other, so that the code of a network reads as its paper's table.
#pragma once

#include <string>
#include <vector>

#include "worker/model/network.h"

namespace plateau {

struct Window {
  int kernel = 3, stride = 1, pad = 0;
  bool ceil_mode = false;  // pools
};

// Every method appends one layer and returns its index; it reads the layer `from`, or the one before it (kBefore).
class NetworkBuilder {
 public:
  static constexpr int kBefore = -2;

  // `side`: of the paper's training crop. Width, classes and channels come from the options.
  NetworkBuilder(std::string name, int side, const NetworkOptions& options);

  // `channels` at width 1. With its ReLU and bias, as most papers have it.
  int Convolution(std::string name, int channels, Window window, int from = kBefore);
  // Without bias and ReLU: batch norm follows.
  int BareConvolution(std::string name, int channels, Window window, int from = kBefore);
  int BatchNorm(std::string name, bool relu, int from = kBefore);
  int MaxPool(std::string name, Window window, int from = kBefore);
  int AveragePool(std::string name, Window window, int from = kBefore);
  // Over the whole map; `dropout` as it is.
  int GlobalAveragePool(std::string name, double dropout, int from = kBefore);
  // k = 2, n = 5, alpha = 1e-4 (not divided by n), beta = 0.75: Krizhevsky et al. 2012, section 3.3.
  int Lrn(std::string name, int from = kBefore);
  int Concat(std::string name, std::vector<int> from);
  int AddRelu(std::string name, int first, int second);
  // `units` at width 1, with ReLU; `dropout` as it is.
  int FullyConnected(std::string name, int units, double dropout, int from = kBefore);
  // The logits: one unit a class, no ReLU.
  int Classifier(std::string name, int from = kBefore);

  // A rate of the paper's that is not 0.5, scaled down with the run's: options.dropout of 0.5 or more leaves it, 0 gives 0.
  double ScaledDropout(double paper) const;
  // Layers appended from now on belong to auxiliary classifier `number` (0: to the main path again).
  void Auxiliary(int number) { auxiliary_ = number; }
  void AddHead(int layer, double loss_weight) { network_.auxiliary.push_back({layer, loss_weight}); }
  int last() const { return static_cast<int>(network_.layers.size()) - 1; }
  LayerDef& layer(int index) { return network_.layers[static_cast<size_t>(index)]; }
  Network Take() { return std::move(network_); }

 private:
  int Append(LayerKind kind, std::string name, int from);

  NetworkOptions options_;
  Network network_;
  int auxiliary_ = 0;
};

}  // namespace plateau
