// Inverted dropout with the masks of worker/nn/dropout.h, whatever the layout.
#include "worker/backend/cuda/kernels/kernels.h"
#include "worker/backend/cuda/kernels/launch.h"
#include "worker/backend/cuda/kernels/philox.h"
#include "worker/backend/cuda/kernels/vector8.h"
#include "worker/backend/cuda/map_checks.h"
#include "worker/nn/dropout.h"

namespace plateau::cuda {
namespace {

constexpr int kLayerShift = 22;  // of DropoutWord's blocks
constexpr int kMostLayers = 1024;
constexpr int64_t kMostUnits = int64_t{1} << 24;

template <class T>
struct Drop {
  T* y;
  Divisor vectors, plane;
  uint32_t pixels;  // of a plane
  int channels;
  uint64_t seed;
  uint32_t first_block, threshold;
  float scale;
  const uint64_t* sample_index;
  const StepScalars* scalars;

  __host__ __device__ Words4 Block(uint64_t sample, uint32_t unit) const {
    return StreamBlock(seed, RandomPurpose::kDropout, scalars->step, sample, first_block + unit / 4);
  }
  __host__ __device__ float Kept(uint32_t word, float value) const { return word >= threshold ? value * scale : 0.0F; }

  __host__ __device__ void operator()(int64_t i) const {
    const auto at = static_cast<uint32_t>(i);
    uint32_t vector = at, pixel = vectors.Split(vector);
    const uint32_t row = plane.Split(pixel);
    const uint64_t sample = sample_index[row];
    const uint32_t channel = vector * kVector;
    Vector8 v = Load8(y, at);
    if (pixels == 1) {  // units lie side by side: two blocks of words serve eight
      for (int half = 0; half < 2; ++half) {
        const Words4 words = Block(sample, channel + 4 * half);
        for (int k = 0; k < 4; ++k) v.value[4 * half + k] = Kept(words.word[k], v.value[4 * half + k]);
      }
    } else {
      for (int k = 0; k < kVector; ++k) {
        const uint32_t unit = (channel + k) * pixels + pixel;
        const Words4 words = Block(sample, unit);
        const uint32_t lower = unit % 2 != 0 ? words.word[1] : words.word[0], upper = unit % 2 != 0 ? words.word[3] : words.word[2];
        v.value[k] = Kept(unit % 4 < 2 ? lower : upper, v.value[k]);
      }
    }
    Store8(y, at, v);
  }
};

}  // namespace

void Dropout(cudaStream_t stream, const Map& y, double rate, uint64_t seed, int layer, const uint64_t* sample_index,
             const StepScalars* scalars) {
  const int64_t vectors = CheckedVectors(y, "Dropout");
  const int64_t pixels = int64_t{y.shape.h} * y.shape.w;
  CheckHolds(layer >= 0 && layer < kMostLayers && pixels * y.shape.stored < kMostUnits, "Dropout",
             "layers count to 1024 and a sample has fewer than 2^24 units");
  ForType(y.type, [&](auto zero) {
    using T = decltype(zero);
    LaunchEach(stream, vectors,
               Drop<T>{Data<T>(y), Divisor(y.shape.stored / kVector), Divisor(static_cast<int>(pixels)),
                       static_cast<uint32_t>(pixels), y.shape.channels, seed, static_cast<uint32_t>(layer) << kLayerShift,
                       DropoutThreshold(rate), static_cast<float>(1 / (1 - rate)), sample_index, scalars});
  });
}

}  // namespace plateau::cuda
