// Plain loops, one operator a function; clarity before speed.
#include "worker/nn/reference.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "worker/nn/dropout.h"

namespace plateau::reference {
namespace {

// Calls visit(n, k, p, q, c, r, s, h, w) for every product of a convolution whose input lies inside the map.
template <typename Visit>
void ForEachProduct(const Map& x, int out_channels, const Window& window, Visit&& visit) {
  const int rows = WindowCount(x.h, window), columns = WindowCount(x.w, window);
  for (int n = 0; n < x.n; ++n)
    for (int k = 0; k < out_channels; ++k)
      for (int p = 0; p < rows; ++p)
        for (int q = 0; q < columns; ++q)
          for (int c = 0; c < x.c; ++c)
            for (int r = 0; r < window.kernel; ++r)
              for (int s = 0; s < window.kernel; ++s) {
                const int h = p * window.stride - window.pad + r, w = q * window.stride - window.pad + s;
                if (h >= 0 && h < x.h && w >= 0 && w < x.w) visit(n, k, p, q, c, r, s, h, w);
              }
}

// Position of the largest value of the window of output (p, q).
std::pair<int, int> Winner(const Map& x, int n, int c, int p, int q, const Window& window) {
  std::pair<int, int> best{-1, -1};
  for (int r = 0; r < window.kernel; ++r)
    for (int s = 0; s < window.kernel; ++s) {
      const int h = p * window.stride - window.pad + r, w = q * window.stride - window.pad + s;
      if (h < 0 || h >= x.h || w < 0 || w >= x.w) continue;
      if (best.first < 0 || x.at(n, c, h, w) > x.at(n, c, best.first, best.second)) best = {h, w};
    }
  return best;
}

}  // namespace

int WindowCount(int in, const Window& window) {
  const int room = in + 2 * window.pad - window.kernel;
  if (!window.ceil_mode) return room / window.stride + 1;
  int places = (room + window.stride - 1) / window.stride + 1;
  if ((places - 1) * window.stride >= in + window.pad) --places;  // the last window would begin outside
  return places;
}

Map ConvForward(const Map& x, const Map& w, const std::vector<double>& b, const Window& window) {
  Map y(x.n, w.n, WindowCount(x.h, window), WindowCount(x.w, window));
  ForEachProduct(x, w.n, window, [&](int n, int k, int p, int q, int c, int r, int s, int h, int col) {
    y.at(n, k, p, q) += x.at(n, c, h, col) * w.at(k, c, r, s);
  });
  for (int n = 0; n < y.n; ++n)
    for (int k = 0; k < y.c; ++k)
      for (int i = 0; i < y.h * y.w; ++i) y.values[(static_cast<size_t>(n) * y.c + k) * y.h * y.w + i] += b[k];
  return y;
}

Map ConvBackwardData(const Map& dy, const Map& w, const Map& x, const Window& window) {
  Map dx(x.n, x.c, x.h, x.w);
  ForEachProduct(x, w.n, window, [&](int n, int k, int p, int q, int c, int r, int s, int h, int col) {
    dx.at(n, c, h, col) += dy.at(n, k, p, q) * w.at(k, c, r, s);
  });
  return dx;
}

WeightGradients ConvBackwardWeights(const Map& dy, const Map& x, const Map& w, const Window& window) {
  WeightGradients d{.w = Map(w.n, w.c, w.h, w.w), .b = std::vector<double>(static_cast<size_t>(w.n))};
  ForEachProduct(x, w.n, window, [&](int n, int k, int p, int q, int c, int r, int s, int h, int col) {
    d.w.at(k, c, r, s) += dy.at(n, k, p, q) * x.at(n, c, h, col);
  });
  for (int n = 0; n < dy.n; ++n)
    for (int k = 0; k < dy.c; ++k)
      for (int i = 0; i < dy.h * dy.w; ++i) d.b[k] += dy.values[(static_cast<size_t>(n) * dy.c + k) * dy.h * dy.w + i];
  return d;
}

Map PoolForward(const Map& x, const Window& window) {
  Map y(x.n, x.c, WindowCount(x.h, window), WindowCount(x.w, window));
  for (int n = 0; n < y.n; ++n)
    for (int c = 0; c < y.c; ++c)
      for (int p = 0; p < y.h; ++p)
        for (int q = 0; q < y.w; ++q) {
          const auto [h, w] = Winner(x, n, c, p, q, window);
          y.at(n, c, p, q) = x.at(n, c, h, w);
        }
  return y;
}

Map PoolBackward(const Map& dy, const Map& x, const Window& window) {
  Map dx(x.n, x.c, x.h, x.w);
  for (int n = 0; n < dy.n; ++n)
    for (int c = 0; c < dy.c; ++c)
      for (int p = 0; p < dy.h; ++p)
        for (int q = 0; q < dy.w; ++q) {
          const auto [h, w] = Winner(x, n, c, p, q, window);
          dx.at(n, c, h, w) += dy.at(n, c, p, q);
        }
  return dx;
}

Map FcForward(const Map& x, const Map& w, const std::vector<double>& b) {
  const size_t inputs = static_cast<size_t>(x.c) * x.h * x.w;
  Map y(x.n, w.n, 1, 1);
  for (int n = 0; n < x.n; ++n)
    for (int o = 0; o < w.n; ++o) {
      double sum = b[o];
      for (size_t i = 0; i < inputs; ++i) sum += x.values[n * inputs + i] * w.values[o * inputs + i];
      y.at(n, o, 0, 0) = sum;
    }
  return y;
}

Map FcBackwardData(const Map& dy, const Map& w, const Map& x) {
  const size_t inputs = static_cast<size_t>(x.c) * x.h * x.w;
  Map dx(x.n, x.c, x.h, x.w);
  for (int n = 0; n < x.n; ++n)
    for (int o = 0; o < w.n; ++o)
      for (size_t i = 0; i < inputs; ++i) dx.values[n * inputs + i] += dy.at(n, o, 0, 0) * w.values[o * inputs + i];
  return dx;
}

WeightGradients FcBackwardWeights(const Map& dy, const Map& x, const Map& w) {
  const size_t inputs = static_cast<size_t>(x.c) * x.h * x.w;
  WeightGradients d{.w = Map(w.n, w.c, 1, 1), .b = std::vector<double>(static_cast<size_t>(w.n))};
  for (int n = 0; n < x.n; ++n)
    for (int o = 0; o < w.n; ++o) {
      d.b[o] += dy.at(n, o, 0, 0);
      for (size_t i = 0; i < inputs; ++i) d.w.values[o * inputs + i] += dy.at(n, o, 0, 0) * x.values[n * inputs + i];
    }
  return d;
}

void Relu(Map& y) {
  for (double& value : y.values) value = std::max(value, 0.0);
}

void ReluBackward(const Map& y, Map& dy) {
  for (size_t i = 0; i < y.values.size(); ++i) dy.values[i] = y.values[i] > 0 ? dy.values[i] : 0;
}

void Dropout(Map& y, double rate, int layer, uint64_t seed, uint64_t step, std::span<const uint64_t> sample_index) {
  const size_t units = static_cast<size_t>(y.c) * y.h * y.w;
  const uint32_t threshold = DropoutThreshold(rate);
  for (int n = 0; n < y.n; ++n) {
    const DropoutKey key{.seed = seed, .step = step, .sample = sample_index[n], .layer = layer};
    for (size_t unit = 0; unit < units; ++unit) {
      double& value = y.values[n * units + unit];
      value = DropoutWord(key, static_cast<uint32_t>(unit)) >= threshold ? value / (1 - rate) : 0;
    }
  }
}

LossResult SoftmaxLoss(const Map& logits, std::span<const int32_t> labels, std::span<const float> weights, int global_batch) {
  LossResult result{.gradient = Map(logits.n, logits.c, 1, 1)};
  for (int n = 0; n < logits.n; ++n) {
    double top = logits.at(n, 0, 0, 0), sum = 0;
    for (int c = 1; c < logits.c; ++c) top = std::max(top, logits.at(n, c, 0, 0));
    for (int c = 0; c < logits.c; ++c) sum += std::exp(logits.at(n, c, 0, 0) - top);
    result.loss += weights[n] * (std::log(sum) + top - logits.at(n, labels[n], 0, 0));
    for (int c = 0; c < logits.c; ++c) {
      const double share = std::exp(logits.at(n, c, 0, 0) - top) / sum;
      result.gradient.at(n, c, 0, 0) = weights[n] * (share - (c == labels[n] ? 1 : 0)) / global_batch;
    }
  }
  return result;
}

}  // namespace plateau::reference
