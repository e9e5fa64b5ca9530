// Computes the posteriors of groups of images: dense, by crops, or both.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "worker/evaluate/group_loader.h"
#include "worker/evaluate/settings.h"
#include "worker/nn/plan.h"

namespace plateau {

// What tests need of a network: one engine for crops, one for whole images; the same where a network has no fully connected layer
// on a map. Both hold the same weights.
struct TestEngines {
  Engine* crops = nullptr;  // nullptr in dense mode
  Engine* dense = nullptr;  // nullptr in center and multicrop mode
};

// A plan that views pass through.
struct TestPass {
  Engine* engine = nullptr;
  PlanOptions options;
};
// What a Tester compiles for this group's images, in its order; a pass that comes again is named again. Throws Failure for a network
// that does not take such images.
std::vector<TestPass> PassesOf(const TestEngines& engines, const TestSettings& settings, int crop, const ImageGroup& group);

// Evaluation thread only. Faults throw Failure. Groups of bytes are for engines that take pixels; they give the same posteriors,
// bit for bit.
class Tester {
 public:
  // Borrows the engines. crop, channels: of the network's input; classes: of its output. `stopped` is asked before each pass.
  Tester(
      TestEngines engines, const TestSettings& settings, int crop, int channels, int classes,
      std::function<bool()> stopped = [] { return false; });
  // Posteriors of the group's images, [image, class], each the mean over its views; valid until the next call; empty once it is
  // stopped. kUnavailable where a plan does not fit into memory, kNumeric where a score is not finite (number of the image in the
  // group).
  std::span<const float> Run(const LoadedGroup& loaded);

 private:
  // One view: which map of the group, which part of it, mirrored or not.
  struct View {
    size_t image = 0, map = 0;
    Rectangle window;
    int map_width = 0, map_height = 0;
    bool mirrored = false;
  };
  void AddViews(Engine& engine, const LoadedGroup& loaded, const std::vector<View>& views, double weight);
  LaneBatch RowsOf(const LoadedGroup& loaded, std::span<const View> views);
  template <typename T>
  void CopyView(const std::vector<T>& map, const View& view, bool mirrored, T* out) const;
  std::vector<View> DenseViews(const ImageGroup& group, size_t scale) const;
  std::vector<View> CropViews(const ImageGroup& group, size_t scale) const;

  TestEngines engines_;
  TestSettings settings_;
  int crop_, channels_, classes_;
  std::function<bool()> stopped_;
  std::vector<double> sums_;  // [image, class]
  std::vector<float> posteriors_, images_, weights_;
  std::vector<uint8_t> pixels_;
  std::vector<PixelScale> pixel_scales_;
  std::vector<int32_t> labels_;
};

// Rows of an image of this size that one pass takes at most: settings.batch, fewer where the two largest neighbouring maps of the
// network would need more than kPassBytes; at least 1.
inline constexpr int64_t kPassBytes = int64_t{1} << 30;
int MostRows(const Network& network, int height, int width, int batch);

}  // namespace plateau
