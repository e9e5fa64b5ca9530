// Which images are computed together, and which rank computes them.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "common/error.h"
#include "dataset/resize.h"
#include "dataset/shard_reader.h"
#include "worker/collective/collective.h"
#include "worker/evaluate/settings.h"

namespace plateau {

// What must be known of an image before it is decoded. Its number is its index in ascending order of source ordinals.
struct TestedImage {
  int32_t width = 0, height = 0;  // pixels, stored
  int32_t label = 0;
};

// The images whose numbers are rank, rank + world_size, ... below `count`, read from the store; the others stay zero. Errors name
// the record: damaged, a label that the store's classes do not have, an image whose scaled form would be larger than
// kMaxScaledPixels (a strip of 30,000 x 10 pixels at Q = 256). `progress` counts records.
inline constexpr int64_t kMaxScaledPixels = 4 << 20;
Result<std::vector<TestedImage>> SurveyImages(const StoreReader& store, const SplitInfo& split, const TestSettings& settings,
                                              int64_t count, int rank, int world_size, std::atomic<int64_t>* progress);
// Collective: puts the ranks' parts together.
void ShareSurvey(Collective& collective, std::vector<TestedImage>& images);

// Images whose scaled shapes are the same at every scale, in ascending order of their numbers.
struct ImageGroup {
  std::vector<int64_t> images;    // numbers
  std::vector<ImageSize> scaled;  // by scale
  double cost = 0;                // pixels that pass through the network
};

// Groups of at most GroupLimit images, largest shapes first: a function of the images and settings alone. Every image is in
// exactly one group.
std::vector<ImageGroup> MakeGroups(const std::vector<TestedImage>& images, const TestSettings& settings, int crop, int channels);

// Of `groups`, the contiguous part of this rank: equal work, as far as whole groups allow.
struct GroupRange {
  size_t first = 0, last = 0;  // [first, last)
};
GroupRange ShareOfRank(const std::vector<ImageGroup>& groups, int rank, int world_size);

// Cuts `rows` into ceil(rows / most) passes of nearly equal size, so that few shapes of plans are wanted.
std::vector<int> CutIntoPasses(int rows, int most);

}  // namespace plateau
