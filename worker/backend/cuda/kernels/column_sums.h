// Sums over all pixels of each channel, in two kernels: many blocks sum runs of pixels, then a block sums their results for eight
// channels. The cut depends on the shape alone and every sum has one order: the same bits on any device.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "worker/backend/cuda/kernels/launch.h"
#include "worker/backend/cuda/kernels/types.h"
#include "worker/backend/cuda/kernels/vector8.h"

namespace plateau::cuda {

// How a map's pixels and channels are dealt to blocks: a tile of up to 32 vectors (512 bytes of bf16) side by side, the block's
// other threads on the pixels below, and `splits` runs of pixels for each tile.
struct ColumnGrid {
  static constexpr int kTileVectors = 32, kPixelsPerThread = 4;
  static constexpr int64_t kMostBlocks = 4096;  // some waves on the largest devices, so that a last one half empty costs little

  int vectors = 0, lanes = 0, rows = 0, tiles = 0;
  int64_t splits = 0, pixels = 0, run = 0;  // pixels of a split; the last may have fewer

  ColumnGrid() = default;
  ColumnGrid(const MapShape& shape, int64_t pixels)
      : vectors(shape.stored / kVector),
        lanes(std::min(vectors, kTileVectors)),
        rows(kBlockThreads / lanes),
        tiles((vectors + kTileVectors - 1) / kTileVectors),
        pixels(pixels) {
    const int64_t most = std::max<int64_t>(kMostBlocks / tiles, 1), wanted = pixels / (int64_t{rows} * kPixelsPerThread);
    splits = std::clamp<int64_t>(wanted, 1, most);
    run = (pixels + splits - 1) / splits;
  }
  int64_t blocks() const { return splits * tiles; }

  // A thread's share: `vector` of the pixels begin, begin + rows, ... below end. Nothing when begin >= end.
  struct Share {
    uint32_t vector;
    int64_t begin, end;
    int64_t split;
    int lane, row;
  };
  __host__ __device__ Share Of(int64_t block, int thread) const {
    const auto tile = static_cast<int>(block % tiles);
    Share share{};
    share.split = block / tiles;
    share.row = thread / lanes;
    share.lane = thread % lanes;
    share.vector = static_cast<uint32_t>(tile * kTileVectors + share.lane);
    share.begin = share.split * run + share.row;
    share.end = (share.split + 1) * run < pixels ? (share.split + 1) * run : pixels;
    if (share.row >= rows || static_cast<int>(share.vector) >= vectors) share.end = share.begin;
    return share;
  }
};

// First kernel. Visit has kSums, `Context Begin(uint32_t vector) const` and
//   void Add(const Context&, uint32_t index, Value (&sums)[kSums][8]) const, index the vector's place in the map.
// partial [kSums, splits, stored]
template <class Visit, class Value>
struct PartialSums {
  static constexpr int kSums = Visit::kSums;
  static constexpr int kPhases = 2;
  static constexpr uint32_t kAtOnce = 4;  // loads under way in a thread
  struct Shared {
    Value sums[kSums][kBlockThreads][kVector];
  };
  ColumnGrid grid;
  Visit visit;
  Value* partial;

  template <int phase>
  __host__ __device__ void Run(int64_t block, int thread, Shared& shared) const {
    const auto share = grid.Of(block, thread);
    if constexpr (phase == 0) {
      Value sums[kSums][kVector] = {};
      if (share.begin < share.end) Collect(share, sums);
      for (int s = 0; s < kSums; ++s)
        for (int k = 0; k < kVector; ++k) shared.sums[s][thread][k] = sums[s][k];
    } else {
      const int lane = thread / kVector, k = thread % kVector;
      const auto tile = static_cast<int>(block % grid.tiles), vector = tile * ColumnGrid::kTileVectors + lane;
      if (lane >= grid.lanes || vector >= grid.vectors) return;
      for (int s = 0; s < kSums; ++s) {
        Value sum = 0;
        for (int row = 0; row < grid.rows; ++row) sum += shared.sums[s][row * grid.lanes + lane][k];
        partial[((s * grid.splits + share.split) * grid.vectors + vector) * kVector + k] = sum;
      }
    }
  }

 private:
  __host__ __device__ void Collect(const ColumnGrid::Share& share, Value (&sums)[kSums][kVector]) const {
    const auto context = visit.Begin(share.vector);
    const auto stride = static_cast<uint32_t>(grid.rows) * static_cast<uint32_t>(grid.vectors);
    auto index = static_cast<uint32_t>(share.begin * grid.vectors + share.vector);
    auto left = static_cast<uint32_t>((share.end - share.begin + grid.rows - 1) / grid.rows);
    for (; left >= kAtOnce; left -= kAtOnce, index += kAtOnce * stride)
      for (uint32_t p = 0; p < kAtOnce; ++p) visit.Add(context, index + p * stride, sums);
    for (; left > 0; --left, index += stride) visit.Add(context, index, sums);
  }
};

// Second kernel, a block for eight channels. Finish: void operator()(int channel, const double (&sums)[kSums]) const.
template <class Finish, class Value, int kSums>
struct FinishSums {
  static constexpr int kPhases = 3;
  static constexpr int kGroupThreads = 2, kGroups = kBlockThreads / kGroupThreads, kParts = 8;
  static constexpr int kThreadChannels = kVector / kGroupThreads;
  struct Shared {
    double groups[kSums][kGroups][kVector], parts[kSums][kParts][kVector];
  };
  int64_t splits;
  int stored;
  const Value* partial;
  Finish finish;

  template <int phase>
  __host__ __device__ void Run(int64_t block, int thread, Shared& shared) const {
    const int part = thread / kVector, k = thread % kVector;
    for (int s = 0; s < kSums; ++s) {
      if constexpr (phase == 0) SumGroup(block, thread, s, shared);
      if constexpr (phase == 1) {
        if (part >= kParts) return;
        double sum = 0;
        for (int g = 0; g < kGroups / kParts; ++g) sum += shared.groups[s][part * (kGroups / kParts) + g][k];
        shared.parts[s][part][k] = sum;
      }
    }
    if constexpr (phase == 2) {
      if (part > 0) return;
      double sums[kSums] = {};
      for (int s = 0; s < kSums; ++s)
        for (int p = 0; p < kParts; ++p) sums[s] += shared.parts[s][p][k];
      finish(static_cast<int>(block) * kVector + k, sums);
    }
  }

 private:
  __host__ __device__ void SumGroup(int64_t block, int thread, int s, Shared& shared) const {
    const int group = thread / kGroupThreads, first = thread % kGroupThreads * kThreadChannels;
    const Value* column = partial + s * splits * stored + block * kVector + first;
    double sums[kThreadChannels] = {};
    int64_t split = group;
    for (; split + 3 * kGroups < splits; split += 4 * kGroups)
      for (int u = 0; u < 4; ++u)
        for (int k = 0; k < kThreadChannels; ++k) sums[k] += column[(split + u * kGroups) * stored + k];
    for (; split < splits; split += kGroups)
      for (int k = 0; k < kThreadChannels; ++k) sums[k] += column[split * stored + k];
    for (int k = 0; k < kThreadChannels; ++k) shared.groups[s][group][first + k] = sums[k];
  }
};

// Both kernels; `pixels` from the map's first on.
template <class Visit, class Value, class Finish>
void LaunchColumnSums(cudaStream_t stream, const MapShape& shape, int64_t pixels, const Visit& visit, Value* partial,
                      const Finish& finish) {
  const ColumnGrid grid(shape, pixels);
  LaunchBlocks(stream, grid.blocks(), PartialSums<Visit, Value>{grid, visit, partial});
  LaunchBlocks(stream, grid.vectors, FinishSums<Finish, Value, Visit::kSums>{grid.splits, shape.stored, partial, finish});
}
// Values that `partial` holds for a map of this shape, whatever the number of pixels.
inline int64_t ColumnScratch(const MapShape& shape, int sums) {
  return ColumnGrid(shape, shape.pixels()).splits * shape.stored * sums;
}

}  // namespace plateau::cuda
