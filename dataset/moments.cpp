// Integer moment sums and the eigenpairs of a 3x3 covariance.
#include "dataset/moments.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"

namespace plateau {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr int kFractionBits = 24;
constexpr size_t kBlockPixels = 4096;  // 4096 * 255 * 255 fits 32 bits

uint64_t Average(uint64_t sum, uint64_t pixels) {
  return static_cast<uint64_t>((static_cast<Wide>(sum) << kFractionBits) / pixels);
}

using Matrix = std::array<std::array<double, 3>, 3>;

// One Jacobi rotation that makes a[p][q] zero (Golub & Van Loan, Matrix Computations, 8.5): a becomes J'aJ, v becomes vJ.
void Rotate(Matrix& a, Matrix& v, int p, int q) {
  if (a[p][q] == 0) return;
  const double tau = (a[q][q] - a[p][p]) / (2 * a[p][q]);
  const double t = (tau >= 0 ? 1.0 : -1.0) / (std::abs(tau) + std::sqrt(1 + tau * tau));
  const double c = 1 / std::sqrt(1 + t * t), s = t * c;
  for (int k = 0; k < 3; ++k) {
    const double akp = a[k][p], akq = a[k][q];
    a[k][p] = c * akp - s * akq;
    a[k][q] = s * akp + c * akq;
  }
  for (int k = 0; k < 3; ++k) {
    const double apk = a[p][k], aqk = a[q][k];
    a[p][k] = c * apk - s * aqk;
    a[q][k] = s * apk + c * aqk;
    const double vkp = v[k][p], vkq = v[k][q];
    v[k][p] = c * vkp - s * vkq;
    v[k][q] = s * vkp + c * vkq;
  }
}

// Fills the eigenpairs of the symmetric matrix `a`.
void SetEigenpairs(Matrix a, PixelMoments& out) {
  Matrix v{{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
  for (int sweep = 0; sweep < 20; ++sweep) {
    Rotate(a, v, 0, 1);
    Rotate(a, v, 0, 2);
    Rotate(a, v, 1, 2);
  }
  std::array<int, 3> order{0, 1, 2};
  std::stable_sort(order.begin(), order.end(), [&](int left, int right) { return a[left][left] > a[right][right]; });
  for (int component = 0; component < 3; ++component) {
    const int from = order[component];
    out.covariance_eigenvalues[component] = std::max(0.0, a[from][from]);
    int largest = 0;
    for (int channel = 1; channel < 3; ++channel)
      if (std::abs(v[channel][from]) > std::abs(v[largest][from])) largest = channel;
    const double sign = v[largest][from] < 0 ? -1 : 1;
    for (int channel = 0; channel < 3; ++channel) out.covariance_eigenvectors[channel][component] = sign * v[channel][from];
  }
}

}  // namespace

void MomentSums::Add(const MomentSums& other) {
  images += other.images;
  for (int i = 0; i < 3; ++i) value[i] += other.value[i];
  for (int i = 0; i < 6; ++i) product[i] += other.product[i];
}

MomentSums MomentsOf(const Image& image) {
  const size_t pixels = static_cast<size_t>(image.width) * static_cast<size_t>(image.height);
  PLATEAU_CHECK(pixels > 0 && image.pixels.size() >= pixels * 3, "{}x{}, {} bytes", image.width, image.height, image.pixels.size());
  std::array<uint64_t, 3> value{};
  std::array<uint64_t, 6> product{};
  for (size_t begin = 0; begin < pixels; begin += kBlockPixels) {
    const size_t end = std::min(pixels, begin + kBlockPixels);
    uint32_t r1 = 0, g1 = 0, b1 = 0, rr = 0, rg = 0, rb = 0, gg = 0, gb = 0, bb = 0;
    const uint8_t* pixel = image.pixels.data() + begin * 3;
    for (size_t i = begin; i < end; ++i, pixel += 3) {
      const uint32_t r = pixel[0], g = pixel[1], b = pixel[2];
      r1 += r, g1 += g, b1 += b;
      rr += r * r, rg += r * g, rb += r * b, gg += g * g, gb += g * b, bb += b * b;
    }
    const std::array<uint32_t, 3> values{r1, g1, b1};
    const std::array<uint32_t, 6> products{rr, rg, rb, gg, gb, bb};
    for (int i = 0; i < 3; ++i) value[i] += values[i];
    for (int i = 0; i < 6; ++i) product[i] += products[i];
  }
  MomentSums sums{1, {}, {}};
  for (int i = 0; i < 3; ++i) sums.value[i] = Average(value[i], pixels);
  for (int i = 0; i < 6; ++i) sums.product[i] = Average(product[i], pixels);
  return sums;
}

PixelMoments FinishMoments(const MomentSums& sums) {
  PixelMoments moments;
  if (sums.images == 0) return moments;
  const double unit = std::ldexp(1.0, -kFractionBits) / static_cast<double>(sums.images);
  for (int i = 0; i < 3; ++i) moments.mean[i] = static_cast<double>(sums.value[i]) * unit;
  Matrix covariance{};
  for (int i = 0, entry = 0; i < 3; ++i)
    for (int j = i; j < 3; ++j, ++entry)
      covariance[i][j] = covariance[j][i] = static_cast<double>(sums.product[entry]) * unit - moments.mean[i] * moments.mean[j];
  for (int i = 0; i < 3; ++i) moments.standard_deviation[i] = std::sqrt(std::max(0.0, covariance[i][i]));
  for (auto& row : covariance)
    for (double& entry : row) entry /= 255.0 * 255.0;
  SetEigenpairs(covariance, moments);
  return moments;
}

}  // namespace plateau
