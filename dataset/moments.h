// Pixel moments of a set of images: every image weighs the same, and the sums are the same bits in any order.
#pragma once

#include <array>
#include <cstdint>

#include "dataset/decode.h"
#include "dataset/manifest.h"

namespace plateau {

// Sums over images of per-image averages, each rounded down to a multiple of 2^-24: integers, so that adding commutes exactly.
// Good for 16 million images.
struct MomentSums {
  uint64_t images = 0;
  std::array<uint64_t, 3> value{};    // R G B, in 2^-24 of the 0..255 scale
  std::array<uint64_t, 6> product{};  // RR RG RB GG GB BB, in 2^-24
  void Add(const MomentSums& other);
  bool operator==(const MomentSums&) const = default;
};

// Of one image, which has at least one pixel.
MomentSums MomentsOf(const Image& image);
// Mean and covariance of a pixel drawn from an image drawn at random (each image alike), and the covariance's eigenpairs on the
// [0,1] scale, largest first; of each eigenvector the entry largest in absolute value is positive. Zeros when there are no images.
PixelMoments FinishMoments(const MomentSums& sums);

}  // namespace plateau
