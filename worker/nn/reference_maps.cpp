// Plain loops for average pools, normalisations and joins.
#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "worker/nn/reference.h"

namespace plateau::reference {
namespace {

// The pixels of the window of output (p, q) that lie inside the map: rows [top, bottom), columns [left, right).
struct Pixels {
  int top = 0, bottom = 0, left = 0, right = 0;
  int count() const { return (bottom - top) * (right - left); }
};

Pixels Inside(const Map& x, int p, int q, const Window& window) {
  if (window.kernel == 0) return {0, x.h, 0, x.w};
  const int top = p * window.stride - window.pad, left = q * window.stride - window.pad;
  return {std::max(top, 0), std::min(top + window.kernel, x.h), std::max(left, 0), std::min(left + window.kernel, x.w)};
}

// Calls visit(n, c, h, w) for every value.
template <typename Visit>
void ForEach(const Map& x, Visit&& visit) {
  for (int n = 0; n < x.n; ++n)
    for (int c = 0; c < x.c; ++c)
      for (int h = 0; h < x.h; ++h)
        for (int w = 0; w < x.w; ++w) visit(n, c, h, w);
}

// Calls visit(d) for the channels around `c`.
template <typename Visit>
void ForEachNeighbour(const Map& x, int c, int size, Visit&& visit) {
  for (int d = std::max(0, c - size / 2); d <= std::min(x.c - 1, c + (size - 1) / 2); ++d) visit(d);
}

// k + alpha * sum of x^2 around.
Map LrnBase(const Map& x, const LrnDef& lrn) {
  Map base(x.n, x.c, x.h, x.w);
  ForEach(x, [&](int n, int c, int h, int w) {
    double sum = 0;
    ForEachNeighbour(x, c, lrn.size, [&](int d) { sum += x.at(n, d, h, w) * x.at(n, d, h, w); });
    base.at(n, c, h, w) = lrn.k + lrn.alpha * sum;
  });
  return base;
}

}  // namespace

Map AveragePoolForward(const Map& x, const Window& window) {
  const bool global = window.kernel == 0;
  Map y(x.n, x.c, global ? 1 : WindowCount(x.h, window), global ? 1 : WindowCount(x.w, window));
  ForEach(y, [&](int n, int c, int p, int q) {
    const Pixels inside = Inside(x, p, q, window);
    for (int h = inside.top; h < inside.bottom; ++h)
      for (int w = inside.left; w < inside.right; ++w) y.at(n, c, p, q) += x.at(n, c, h, w) / inside.count();
  });
  return y;
}

Map AveragePoolBackward(const Map& dy, const Map& x, const Window& window) {
  Map dx(x.n, x.c, x.h, x.w);
  ForEach(dy, [&](int n, int c, int p, int q) {
    const Pixels inside = Inside(x, p, q, window);
    for (int h = inside.top; h < inside.bottom; ++h)
      for (int w = inside.left; w < inside.right; ++w) dx.at(n, c, h, w) += dy.at(n, c, p, q) / inside.count();
  });
  return dx;
}

Map LrnForward(const Map& x, const LrnDef& lrn) {
  Map y = LrnBase(x, lrn);
  for (size_t i = 0; i < y.values.size(); ++i) y.values[i] = x.values[i] * std::pow(y.values[i], -lrn.beta);
  return y;
}

// dx_c = dy_c * base_c^-beta - 2 alpha beta x_c * sum over the outputs d whose window holds c of dy_d x_d base_d^(-beta - 1).
Map LrnBackward(const Map& dy, const Map& x, const LrnDef& lrn) {
  const Map base = LrnBase(x, lrn);
  Map dx(x.n, x.c, x.h, x.w);
  ForEach(x, [&](int n, int d, int h, int w) {
    const double pull = dy.at(n, d, h, w) * x.at(n, d, h, w) * std::pow(base.at(n, d, h, w), -lrn.beta - 1);
    dx.at(n, d, h, w) += dy.at(n, d, h, w) * std::pow(base.at(n, d, h, w), -lrn.beta);
    ForEachNeighbour(x, d, lrn.size, [&](int c) { dx.at(n, c, h, w) -= 2 * lrn.alpha * lrn.beta * x.at(n, c, h, w) * pull; });
  });
  return dx;
}

ChannelStatistics BatchStatistics(const Map& x, int rows) {
  const auto channels = static_cast<size_t>(x.c);
  ChannelStatistics of{std::vector<double>(channels), std::vector<double>(channels), int64_t{rows} * x.h * x.w};
  const auto count = static_cast<double>(of.count);
  ForEach(x, [&](int n, int c, int h, int w) {
    if (n < rows) of.mean[static_cast<size_t>(c)] += x.at(n, c, h, w) / count;
  });
  ForEach(x, [&](int n, int c, int h, int w) {
    const double away = x.at(n, c, h, w) - of.mean[static_cast<size_t>(c)];
    if (n < rows) of.variance[static_cast<size_t>(c)] += away * away / count;
  });
  return of;
}

Map BatchNormForward(const Map& x, const std::vector<double>& scale, const std::vector<double>& shift,
                     const ChannelStatistics& statistics, double epsilon) {
  Map y(x.n, x.c, x.h, x.w);
  ForEach(x, [&](int n, int channel, int h, int w) {
    const auto c = static_cast<size_t>(channel);
    const double normal = (x.at(n, channel, h, w) - statistics.mean[c]) / std::sqrt(statistics.variance[c] + epsilon);
    y.at(n, channel, h, w) = scale[c] * normal + shift[c];
  });
  return y;
}

// With x^ the normalised x: dscale = sum dy x^, dshift = sum dy, dx = scale / deviation * (dy - dshift / count - x^ dscale /
// count).
BatchNormGradients BatchNormBackward(const Map& dy, const Map& x, const std::vector<double>& scale, int rows, double epsilon) {
  const ChannelStatistics statistics = BatchStatistics(x, rows);
  const std::vector<double> ones(scale.size(), 1), zeros(scale.size());
  const Map normal = BatchNormForward(x, ones, zeros, statistics, epsilon);
  BatchNormGradients d{Map(x.n, x.c, x.h, x.w), zeros, zeros};
  ForEach(x, [&](int n, int c, int h, int w) {
    if (n >= rows) return;
    d.scale[static_cast<size_t>(c)] += dy.at(n, c, h, w) * normal.at(n, c, h, w);
    d.shift[static_cast<size_t>(c)] += dy.at(n, c, h, w);
  });
  const auto count = static_cast<double>(statistics.count);
  ForEach(x, [&](int n, int channel, int h, int w) {
    if (n >= rows) return;
    const auto c = static_cast<size_t>(channel);
    const double centred = dy.at(n, channel, h, w) - d.shift[c] / count - normal.at(n, channel, h, w) * d.scale[c] / count;
    d.x.at(n, channel, h, w) = scale[c] / std::sqrt(statistics.variance[c] + epsilon) * centred;
  });
  return d;
}

Map Concat(const std::vector<const Map*>& inputs) {
  int channels = 0;
  for (const Map* x : inputs) channels += x->c;
  Map y(inputs[0]->n, channels, inputs[0]->h, inputs[0]->w);
  int first = 0;
  for (const Map* x : inputs) {
    ForEach(*x, [&](int n, int c, int h, int w) { y.at(n, first + c, h, w) = x->at(n, c, h, w); });
    first += x->c;
  }
  return y;
}

Map ConcatBackward(const Map& dy, const Map& x, int first) {
  Map dx(x.n, x.c, x.h, x.w);
  ForEach(dx, [&](int n, int c, int h, int w) { dx.at(n, c, h, w) = dy.at(n, first + c, h, w); });
  return dx;
}

Map Add(const std::vector<const Map*>& inputs) {
  Map y = *inputs[0];
  for (size_t i = 1; i < inputs.size(); ++i)
    for (size_t v = 0; v < y.values.size(); ++v) y.values[v] += inputs[i]->values[v];
  return y;
}

}  // namespace plateau::reference
