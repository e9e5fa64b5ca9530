// Images into the network's first map: layout, type and what is left of the augmentation.
//
// VGG-D at batch 256 (12.8 M pixels) in bf16: from bytes 3 are read and 16 written a pixel, 244 MB, 0.06 ms at 4 TB/s; from floats 12 and
// 16, 360 MB, 0.09 ms. On the way to the device bytes are 38.5 MB a step, floats 154 MB: 0.8 and 3 ms at 50 GB/s. Reckoned, not measured.
#include "worker/backend/cuda/kernels/kernels.h"
#include "worker/backend/cuda/kernels/launch.h"
#include "worker/backend/cuda/kernels/vector8.h"
#include "worker/backend/cuda/map_checks.h"

namespace plateau::cuda {
namespace {

// A thread makes eight channels of one pixel. Threads run along the pixels of a plane first, so that planes are read in whole
// lines.
struct InputPlace {
  Divisor plane, vectors;
  uint32_t pixels = 0, vector_count = 0;

  explicit InputPlace(const MapShape& shape)
      : plane(shape.h * shape.w),
        vectors(shape.stored / kVector),
        pixels(static_cast<uint32_t>(shape.h) * shape.w),
        vector_count(static_cast<uint32_t>(shape.stored / kVector)) {}
  struct Place {
    uint32_t image, pixel, vector;
  };
  __host__ __device__ Place At(uint32_t i) const {
    Place place{};
    place.image = plane.Split(i);
    place.pixel = i;
    i = place.image;
    place.image = vectors.Split(i);
    place.vector = i;
    return place;
  }
  __host__ __device__ uint32_t Target(const Place& place) const {
    return (place.image * pixels + place.pixel) * vector_count + place.vector;
  }
};

template <class T>
struct FromFloat {
  InputPlace places;
  const float* images;
  T* out;
  int channels;
  int32_t* nonfinite;

  __host__ __device__ void operator()(int64_t i) const {
    const auto place = places.At(static_cast<uint32_t>(i));
    const int first = static_cast<int>(place.vector) * kVector;
    Vector8 v;
    for (int k = 0; k < kVector; ++k) {
      const int c = first + k;
      v.value[k] = c < channels ? images[(int64_t{place.image} * channels + c) * places.pixels + place.pixel] : 0.0F;
    }
    Raise(nonfinite, !Finite(v));
    Store8(out, places.Target(place), v);
  }
};

template <class T>
struct FromBytes {
  InputPlace places;
  const uint8_t* pixels;
  const PixelScale* scales;
  T* out;
  Divisor width;
  uint32_t columns;
  int channels;

  __host__ __device__ void operator()(int64_t i) const {
    const auto place = places.At(static_cast<uint32_t>(i));
    const PixelScale& scale = scales[place.image];
    uint32_t column = place.pixel;
    const uint32_t row = width.Split(column);
    const uint32_t source = row * columns + (scale.flip != 0 ? columns - 1 - column : column);
    const uint8_t* pixel = pixels + int64_t{place.image} * channels * places.pixels + source;
    Vector8 v;
    for (int k = 0; k < kVector; ++k) v.value[k] = 0;
    for (int c = 0; c < kMostPixelChannels; ++c)
      if (c < channels) v.value[c] = static_cast<float>(pixel[int64_t{c} * places.pixels]) * scale.gain[c] + scale.offset[c];
    Store8(out, places.Target(place), v);
  }
};

}  // namespace

void InputFromFloat(cudaStream_t stream, const float* images, const Map& out, int32_t* nonfinite) {
  const int64_t vectors = CheckedVectors(out, "InputFromFloat");
  ForType(out.type, [&](auto zero) {
    using T = decltype(zero);
    LaunchEach(stream, vectors, FromFloat<T>{InputPlace(out.shape), images, Data<T>(out), out.shape.channels, nonfinite});
  });
}

void InputFromBytes(cudaStream_t stream, const uint8_t* pixels, const PixelScale* scales, const Map& out) {
  static_assert(kMostPixelChannels <= kVector);  // one vector a pixel
  const int64_t vectors = CheckedVectors(out, "InputFromBytes");
  CheckHolds(out.shape.channels <= kMostPixelChannels && out.shape.stored == kVector, "InputFromBytes",
             "images of bytes have at most 3 channels");
  ForType(out.type, [&](auto zero) {
    using T = decltype(zero);
    LaunchEach(stream, vectors,
               FromBytes<T>{InputPlace(out.shape), pixels, scales, Data<T>(out), Divisor(out.shape.w),
                            static_cast<uint32_t>(out.shape.w), out.shape.channels});
  });
}

}  // namespace plateau::cuda
