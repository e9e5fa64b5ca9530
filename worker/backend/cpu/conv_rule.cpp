// The measured rule.
//
// Winograd F(4x4,3x3) computes 4x4 tiles: it wastes what a map leaves of its last tiles, and needs enough tiles in a batch to fill
// its matrix products. Measured with oneDNN 2.6.3 on Zen 4 (AVX-512), one thread, CPU time, best of four; time of direct over
// Winograd for forward / data / weights:
//   map    batch  channels   tiles  pixels a tile   direct/Winograd
//   224     8      64->64    25088     16           2.22 2.42 2.02
//   56      8     256->256    1568     16           2.80 2.85 3.34
//   28     32     128->128    1568     16           2.41 2.46 1.92
//   14     32     256->256     512     12.25        1.96 2.03 2.44
//   14     32      64->128     512     12.25        1.45 1.41 1.83
//   7      64     256->256     256     12.25        1.65 1.63 2.19
//   7      32     512->512     128     12.25        1.84 1.84 3.06
//   7       8     512->512      32     12.25        1.27 1.25 1.92
//   4      32     256->256      32     16           1.21 1.33 1.77
//   8       4      16->16       16     16           0.70 0.71 0.72
//   4       4      32->32        4     16           0.36 0.42 0.73
//   3      64     256->256      64      9           0.91 0.78 1.20
//   3      32     512->512      32      9           0.77 0.75 1.65
//   3       8     512->512       8      9           0.44 0.42 0.57
//   2      32     256->256      32      4           0.37 0.35 0.57
#include "worker/backend/cpu/conv_rule.h"

#include <cstdint>

namespace plateau {
namespace {

constexpr int kMinChannels = 16;
constexpr int kTileSide = 4;
constexpr int64_t kMinTiles = 32;              // of the whole batch
constexpr int64_t kMinPixelsATile = 12;        // forward and data
constexpr int64_t kMinPixelsATileWeights = 9;  // the direct pass over weights is the slowest of the three on small maps

bool WinogradExists(const ConvShape& shape) {
  return shape.kernel == 3 && shape.stride == 1 && shape.pad == 1 && shape.in_channels % kMinChannels == 0 &&
         shape.out_channels % kMinChannels == 0;
}

}  // namespace

ConvAlgorithm ChooseConvAlgorithm(const ConvShape& shape, ConvPass pass, ConvAlgorithm requested, bool has_avx512) {
  if (!has_avx512 || !WinogradExists(shape) || requested == ConvAlgorithm::kDirect) return ConvAlgorithm::kDirect;
  if (requested == ConvAlgorithm::kWinograd) return ConvAlgorithm::kWinograd;
  const int64_t rows = (shape.height + kTileSide - 1) / kTileSide, columns = (shape.width + kTileSide - 1) / kTileSide;
  const int64_t pixels = int64_t{shape.height} * shape.width;
  const int64_t wanted = pass == ConvPass::kBackwardWeights ? kMinPixelsATileWeights : kMinPixelsATile;
  const bool enough = shape.batch * rows * columns >= kMinTiles && pixels >= wanted * rows * columns;
  return enough ? ConvAlgorithm::kWinograd : ConvAlgorithm::kDirect;
}

const char* ConvPassName(ConvPass pass) {
  switch (pass) {
    case ConvPass::kForward: return "forward";
    case ConvPass::kBackwardData: return "backward_data";
    case ConvPass::kBackwardWeights: return "backward_weights";
  }
  return "";
}

const char* ConvAlgorithmName(ConvAlgorithm algorithm) {
  switch (algorithm) {
    case ConvAlgorithm::kAuto: return "auto";
    case ConvAlgorithm::kDirect: return "direct";
    case ConvAlgorithm::kWinograd: return "winograd";
  }
  return "";
}

}  // namespace plateau
