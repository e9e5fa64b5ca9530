// Where a pool's windows and pixels lie.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "worker/backend/cuda/kernels/kernels.h"
#include "worker/backend/cuda/kernels/vector8.h"
#include "worker/backend/cuda/map_checks.h"

namespace plateau::cuda {

// Where eight channels of one pixel of a map lie.
struct Pixels {
  Divisor vectors, columns, rows;
  int w = 0, h = 0, vector_count = 0;

  Pixels() = default;
  // Over the map's pixels, or over `h` x `w` places a sample.
  explicit Pixels(const MapShape& shape) : Pixels(shape, shape.h, shape.w) {}
  Pixels(const MapShape& shape, int h, int w)
      : vectors(shape.stored / kVector), columns(w), rows(h), w(w), h(h), vector_count(shape.stored / kVector) {}

  struct Place {
    int n, h, w, vector;
  };
  __host__ __device__ Place At(int64_t i) const {
    uint32_t vector = static_cast<uint32_t>(i);
    uint32_t column = vectors.Split(vector), row = columns.Split(column);
    const uint32_t n = rows.Split(row);
    return {static_cast<int>(n), static_cast<int>(row), static_cast<int>(column), static_cast<int>(vector)};
  }
  __host__ __device__ uint32_t Index(int n, int row, int column, int vector) const {
    return static_cast<uint32_t>(((n * h + row) * w + column)) * static_cast<uint32_t>(vector_count) +
           static_cast<uint32_t>(vector);
  }
};

// The part of a window along one side that lies inside `size` pixels: [begin, end) of the map.
struct Side {
  int begin, end;
};
__host__ __device__ inline Side Inside(int place, const PoolWindow& window, int size) {
  const int begin = place * window.stride - window.pad, end = begin + window.kernel;
  return {begin < 0 ? 0 : begin, end < size ? end : size};
}

// The windows along one side that hold pixel `at`: [begin, end) of `places`.
__host__ __device__ inline Side Holding(int at, const PoolWindow& window, const Divisor& stride, int places) {
  const int last = at + window.pad, first = last - window.kernel + 1;
  const int begin = first <= 0 ? 0 : static_cast<int>(stride.Quotient(static_cast<uint32_t>(first + window.stride - 1)));
  const int end = static_cast<int>(stride.Quotient(static_cast<uint32_t>(last))) + 1;
  return {begin, end < places ? end : places};
}

// Aborts unless each window of `out` has a pixel in `in`.
inline void CheckPool(const Map& in, const Map& out, const PoolWindow& window, const char* kernel) {
  CheckedVectors(in, kernel);
  CheckedVectors(out, kernel);
  CheckSameChannels(in, out, kernel);
  const auto reaches = [&](int places, int size) { return int64_t{places - 1} * window.stride - window.pad < size; };
  CheckHolds(window.kernel > 0 && window.stride > 0 && window.pad >= 0 && window.pad < window.kernel &&
                 reaches(out.shape.h, in.shape.h) && reaches(out.shape.w, in.shape.w),
             kernel, "a window lies wholly outside the map");
}

}  // namespace plateau::cuda
