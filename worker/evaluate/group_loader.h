// Decodes a rank's groups of images ahead of the network, in order, by a few threads.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "common/pixel_scale.h"
#include "dataset/preprocessing.h"
#include "dataset/shard_reader.h"
#include "worker/evaluate/image_groups.h"

namespace plateau {

// The images of one group. In mode center a map is the crop in the middle, else the whole scaled image.
struct LoadedGroup {
  const ImageGroup* group = nullptr;
  // [image of the group * scales + scale][channels, height, width], normalised.
  std::vector<std::vector<float>> maps;
  // In place of `maps` for engines that take pixels: bytes, and how they become values.
  std::vector<std::vector<uint8_t>> pixels;
  PixelScale scale;
};

// Owns its threads. Next() and Recycle() from one thread. At most kAhead groups are decoded or being decoded; memory is reused.
class GroupLoader {
 public:
  static constexpr int kAhead = 2;
  // Store, split and groups must live longer. `pixels`: groups hold bytes. `progress` counts images decoded, for a watcher.
  static std::unique_ptr<GroupLoader> Start(const StoreReader& store, const SplitInfo& split, const Preprocessing& preprocessing,
                                            const TestSettings& settings, std::span<const ImageGroup> groups, int threads,
                                            bool pixels, std::atomic<int64_t>* progress);
  virtual ~GroupLoader() = default;  // stops the threads and waits for them: at most one image each
  // Blocks until the next group is whole; nullptr after the last. An image that cannot be read or decoded is an error that names
  // its record; of several, one of the group's.
  virtual Result<std::unique_ptr<LoadedGroup>> Next() = 0;
  virtual void Recycle(std::unique_ptr<LoadedGroup> loaded) = 0;
};

}  // namespace plateau
