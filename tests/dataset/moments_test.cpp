// Pixel moments: right against doubles, the same bits in any order, eigenpairs that satisfy their equation.
#include "dataset/moments.h"

#include <cmath>

#include <gtest/gtest.h>

#include "tests/support/test_images.h"

namespace plateau {
namespace {

using testing::MakePicture;

std::vector<Image> Pictures() {
  return {MakePicture(30, 20, 1), MakePicture(7, 90, 2), MakePicture(101, 67, 3), MakePicture(1, 1, 4)};
}

TEST(Moments, EveryImageWeighsTheSame) {
  MomentSums sums;
  std::array<double, 3> mean{};
  std::array<std::array<double, 3>, 3> second{};
  const auto pictures = Pictures();
  for (const auto& image : pictures) {
    sums.Add(MomentsOf(image));
    const double pixels = static_cast<double>(image.width) * image.height * static_cast<double>(pictures.size());
    for (size_t i = 0; i < image.pixels.size(); i += 3)
      for (int a = 0; a < 3; ++a) {
        mean[a] += image.pixels[i + a] / pixels;
        for (int b = 0; b < 3; ++b) second[a][b] += static_cast<double>(image.pixels[i + a]) * image.pixels[i + b] / pixels;
      }
  }
  const PixelMoments moments = FinishMoments(sums);
  for (int a = 0; a < 3; ++a) {
    EXPECT_NEAR(moments.mean[a], mean[a], 1e-6);
    EXPECT_NEAR(moments.standard_deviation[a], std::sqrt(second[a][a] - mean[a] * mean[a]), 1e-5);
  }
  for (int component = 0; component < 3; ++component) {
    double length = 0;
    for (int a = 0; a < 3; ++a) {
      double product = 0;  // row a of covariance times the eigenvector
      for (int b = 0; b < 3; ++b)
        product += (second[a][b] - mean[a] * mean[b]) / (255.0 * 255.0) * moments.covariance_eigenvectors[b][component];
      EXPECT_NEAR(product, moments.covariance_eigenvalues[component] * moments.covariance_eigenvectors[a][component], 1e-9);
      length += std::pow(moments.covariance_eigenvectors[a][component], 2);
    }
    EXPECT_NEAR(length, 1, 1e-12);
  }
  EXPECT_GE(moments.covariance_eigenvalues[0], moments.covariance_eigenvalues[1]);
  EXPECT_GE(moments.covariance_eigenvalues[1], moments.covariance_eigenvalues[2]);
}

TEST(Moments, AnyOrderGivesTheSameSums) {
  const auto pictures = Pictures();
  MomentSums forward, backward;
  for (size_t i = 0; i < pictures.size(); ++i) {
    forward.Add(MomentsOf(pictures[i]));
    backward.Add(MomentsOf(pictures[pictures.size() - 1 - i]));
  }
  EXPECT_EQ(forward, backward);
}

TEST(Moments, LargeWhiteImageDoesNotOverflow) {
  const Image white{3000, 2000, std::vector<uint8_t>(size_t{3} * 3000 * 2000, 255)};
  const PixelMoments moments = FinishMoments(MomentsOf(white));
  for (int a = 0; a < 3; ++a) {
    EXPECT_DOUBLE_EQ(moments.mean[a], 255);
    EXPECT_DOUBLE_EQ(moments.standard_deviation[a], 0);
    EXPECT_DOUBLE_EQ(moments.covariance_eigenvalues[a], 0);
  }
}

}  // namespace
}  // namespace plateau
