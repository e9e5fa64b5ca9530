// Stochastic gradient descent with momentum and weight decay.
#include "worker/train/sgd.h"

#include <bit>
#include <cmath>
#include <cstdint>

#include "common/check.h"

namespace plateau {
namespace {

// The loop waits for memory (three streams read, two written): wider vectors measured no faster than the baseline's.
// Returns 1 when a new weight is not finite.
int UpdateRange(float* __restrict w, float* __restrict v, const float* __restrict g, long count, float lr, float momentum,
                float weight_decay) {
  constexpr uint32_t kExponent = 0x7F800000;
  int bad = 0;
#pragma omp simd reduction(| : bad)
  for (long i = 0; i < count; ++i) {
    const float step = momentum * v[i] - lr * (g[i] + weight_decay * w[i]);
    const float next = w[i] + step;
    v[i] = step;
    w[i] = next;
    bad |= static_cast<int>((std::bit_cast<uint32_t>(next) & kExponent) == kExponent);
  }
  return bad;
}

}  // namespace

bool SgdUpdate(std::span<float> w, std::span<float> v, std::span<const float> g, float lr, float momentum, float weight_decay,
               int threads) {
  PLATEAU_CHECK(w.size() == v.size() && w.size() == g.size(), "sizes {} {} {}", w.size(), v.size(), g.size());
  constexpr long kBlock = 1 << 15;
  const long count = static_cast<long>(w.size());
  int bad = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(| : bad) if (threads > 1 && count > kBlock)
  for (long begin = 0; begin < count; begin += kBlock) {
    const long n = begin + kBlock < count ? kBlock : count - begin;
    bad |= UpdateRange(w.data() + begin, v.data() + begin, g.data() + begin, n, lr, momentum, weight_decay);
  }
  return bad == 0;
}

bool AverageUpdate(std::span<float> average, std::span<const float> batch, float momentum) {
  PLATEAU_CHECK(average.size() == batch.size(), "sizes {} {}", average.size(), batch.size());
  bool finite = true;
  for (size_t i = 0; i < average.size(); ++i) {
    average[i] = (1 - momentum) * average[i] + momentum * batch[i];
    finite = finite && std::isfinite(average[i]);
  }
  return finite;
}

int Sgd::Update(const GradientReducer& reducer, double lr) {
  int first_bad = -1;
  for (int p = 0; p < parameters_.count(); ++p) {
    const ParameterInfo& info = parameters_.info(p);
    const bool decays = options_.decay_biases || !info.decays_as_bias();
    const bool finite = info.learned()
                            ? SgdUpdate(parameters_.weight(p), parameters_.momentum(p), reducer.gradient(p), static_cast<float>(lr),
                                        static_cast<float>(options_.momentum),
                                        decays ? static_cast<float>(options_.weight_decay) : 0.0F, options_.threads)
                            : AverageUpdate(parameters_.weight(p), reducer.gradient(p), static_cast<float>(info.average_momentum));
    if (!finite && first_bad < 0) first_bad = p;
  }
  parameters_.WeightsChanged();
  return first_bad;
}

}  // namespace plateau
