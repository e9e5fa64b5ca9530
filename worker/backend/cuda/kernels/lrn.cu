// Local response normalisation over neighbouring channels (Krizhevsky, Sutskever, Hinton, NIPS 2012, section 3.3).
//
// A thread makes eight channels and reads the vectors beside them, which its neighbours have brought into the cache: of DRAM's
// bytes forward is one read and one write, backward two reads and one write.
#include <utility>

#include "worker/backend/cuda/kernels/kernels.h"
#include "worker/backend/cuda/kernels/launch.h"
#include "worker/backend/cuda/kernels/vector8.h"
#include "worker/backend/cuda/map_checks.h"

namespace plateau::cuda {
namespace {

constexpr int kWide = 3 * kVector;  // the vector before, its own, the one behind
// Backward reads squares twice half a window away, and no further than a vector.
constexpr int kMostSize = 9;

struct Constants {
  float k, alpha, beta;
  int before, behind;  // channels of the window on either side
};
Constants ConstantsOf(const LrnWindow& lrn) {
  CheckHolds(lrn.size >= 1 && lrn.size <= kMostSize && lrn.k > 0, "Lrn", "windows hold 1 to 9 channels, k is above 0");
  return {static_cast<float>(lrn.k), static_cast<float>(lrn.alpha), static_cast<float>(lrn.beta), lrn.size / 2, (lrn.size - 1) / 2};
}

// base^-beta. The papers' 0.75 by two square roots, which are exact to the last bit everywhere.
__host__ __device__ inline float Shrink(float base, float beta) {
  if (beta == 0.75F) {
    const float root = sqrtf(base);
    return 1 / (root * sqrtf(root));
  }
  return powf(base, -beta);
}

// use(0), use(1), ... written out, so that arrays indexed by them stay in registers.
template <class Use, int... numbers>
__host__ __device__ inline void Unrolled(std::integer_sequence<int, numbers...>, const Use& use) {
  (use(numbers), ...);
}

// Eight channels with their neighbours; zeros beyond the map.
template <class T>
struct Wide {
  float value[kWide];

  __host__ __device__ Wide(const T* map, uint32_t at, uint32_t vector, uint32_t vectors) {
    const Vector8 own = Load8(map, at);
    Vector8 left = {}, right = {};
    if (vector > 0) left = Load8(map, at - 1);
    if (vector + 1 < vectors) right = Load8(map, at + 1);
    for (int k = 0; k < kVector; ++k) {
      value[k] = left.value[k];
      value[kVector + k] = own.value[k];
      value[2 * kVector + k] = right.value[k];
    }
  }
};

// k + alpha * sum of squares around channel `c` of the wide vector.
__host__ __device__ inline float Base(const float (&x)[kWide], int c, const Constants& constants) {
  float sum = 0;
  for (int offset = -kMostSize / 2; offset <= kMostSize / 2; ++offset) {
    const int d = c + offset;
    if (d < 0 || d >= kWide) continue;
    if (offset >= -constants.before && offset <= constants.behind) sum += x[d] * x[d];
  }
  return constants.k + constants.alpha * sum;
}

template <class T>
struct Forward {
  Divisor vectors;
  uint32_t vector_count;
  Constants constants;
  const T* x;
  T* y;

  __host__ __device__ void operator()(int64_t i) const {
    const auto at = static_cast<uint32_t>(i);
    uint32_t vector = at;
    vectors.Split(vector);
    const Wide<T> wide(x, at, vector, vector_count);
    Vector8 v;
    for (int k = 0; k < kVector; ++k) {
      const int c = kVector + k;
      v.value[k] = wide.value[c] * Shrink(Base(wide.value, c, constants), constants.beta);
    }
    Store8(y, at, v);
  }
};

// dx_c = dy_c base_c^-beta - 2 alpha beta x_c * sum over the outputs d whose window holds c of dy_d x_d base_d^(-beta - 1).
template <class T>
struct Backward {
  Divisor vectors;
  uint32_t vector_count;
  Constants constants;
  const T* x;
  const T* dy;
  T* dx;

  __host__ __device__ void operator()(int64_t i) const {
    constexpr int kReach = kMostSize / 2;
    const auto at = static_cast<uint32_t>(i);
    uint32_t vector = at;
    vectors.Split(vector);
    const Wide<T> wide(x, at, vector, vector_count), gradient(dy, at, vector, vector_count);
    float pull[kVector + 2 * kReach];
    Vector8 v;
    Unrolled(std::make_integer_sequence<int, kVector + 2 * kReach>{}, [&](int d) {
      const int c = kVector - kReach + d;
      const float base = Base(wide.value, c, constants), direct = gradient.value[c] * Shrink(base, constants.beta);
      pull[d] = direct * wide.value[c] / base;
      if (d >= kReach && d < kReach + kVector) v.value[d - kReach] = direct;
    });
    const float factor = 2 * constants.alpha * constants.beta;
    for (int k = 0; k < kVector; ++k) {
      float sum = 0;
      for (int offset = -kReach; offset <= kReach; ++offset)
        if (offset >= -constants.behind && offset <= constants.before) sum += pull[k + kReach + offset];
      v.value[k] -= factor * wide.value[kVector + k] * sum;
    }
    Store8(dx, at, v);
  }
};

}  // namespace

void LrnForward(cudaStream_t stream, const Map& x, const LrnWindow& lrn, const Map& y) {
  const int64_t vectors = CheckedVectors(x, y, "LrnForward");
  CheckHolds(x.data != y.data, "LrnForward", "does not work in place");
  ForType(x.type, [&](auto zero) {
    using T = decltype(zero);
    const int a_pixel = x.shape.stored / kVector;
    LaunchEach(stream, vectors,
               Forward<T>{Divisor(a_pixel), static_cast<uint32_t>(a_pixel), ConstantsOf(lrn), Data<T>(x), Data<T>(y)});
  });
}

void LrnBackward(cudaStream_t stream, const Map& x, const Map& dy, const LrnWindow& lrn, const Map& dx) {
  const int64_t vectors = CheckedVectors(x, dx, "LrnBackward");
  CheckedVectors(dy, dx, "LrnBackward");
  CheckHolds(x.data != dx.data && dy.data != dx.data, "LrnBackward", "does not work in place");
  ForType(x.type, [&](auto zero) {
    using T = decltype(zero);
    const int a_pixel = x.shape.stored / kVector;
    LaunchEach(
        stream, vectors,
        Backward<T>{Divisor(a_pixel), static_cast<uint32_t>(a_pixel), ConstantsOf(lrn), Data<T>(x), Data<T>(dy), Data<T>(dx)});
  });
}

}  // namespace plateau::cuda
