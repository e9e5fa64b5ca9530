// Surveys a split, and groups its images by scaled shape.
#include "worker/evaluate/image_groups.h"

#include <algorithm>
#include <numeric>

#include "common/check.h"

namespace plateau {
namespace {

constexpr int kMaxGroupImages = 64;
constexpr int64_t kGroupBytes = int64_t{128} << 20;  // of scaled images; three groups are in memory at a time

Status CheckRecord(const RecordHeader& header, const SplitInfo& split, const Manifest& manifest, const TestSettings& settings) {
  const auto named = [&] {
    return fmt::format("record {} of split {} (\"{}\")", header.source_ordinal, split.name, header.source_name);
  };
  if (header.width < 1 || header.height < 1) return Fail(ErrorCode::kCorrupt, "{}: it has no pixels; ingest it again", named());
  if (header.label < 0 || static_cast<size_t>(header.label) >= manifest.classes.size())
    return Fail(ErrorCode::kCorrupt, "{}: label {}, but the store has {} classes; ingest it again", named(), header.label,
                manifest.classes.size());
  if (settings.mode == EvaluationMode::kCenter) return {};  // only the crop is scaled
  for (const int scale : settings.scales) {
    const int64_t shorter = std::min(header.width, header.height), longer = std::max(header.width, header.height);
    const int64_t pixels = scale * (scale * longer / shorter);
    if (pixels <= kMaxScaledPixels) continue;
    return Fail(
        ErrorCode::kInvalidInput,
        "{}: {} x {} pixels with the shortest side scaled to {} are {} pixels, more than the {} that {} testing takes; test "
        "with mode center, or leave the image out of the split",
        named(), header.width, header.height, scale, pixels, kMaxScaledPixels, EvaluationModeName(settings.mode));
  }
  return {};
}

// Images a group: a whole number of full passes where that is possible, and no more memory than kGroupBytes.
int GroupLimit(const TestSettings& settings, const std::vector<ImageSize>& scaled, int crop, int channels) {
  const int views = settings.mode == EvaluationMode::kDense ? settings.flips() : settings.crop_views();
  const int images = std::clamp(settings.batch / std::gcd(settings.batch, views), 1, kMaxGroupImages);
  int64_t bytes = 0;
  for (const ImageSize& size : scaled) {
    const int64_t pixels = settings.mode == EvaluationMode::kCenter ? int64_t{crop} * crop : int64_t{size.width} * size.height;
    bytes += pixels * channels * int64_t{sizeof(float)};
  }
  return static_cast<int>(std::clamp<int64_t>(kGroupBytes / bytes, 1, images));
}

double ImageCost(const TestSettings& settings, const std::vector<ImageSize>& scaled, int crop) {
  double pixels = 0;
  for (const ImageSize& size : scaled) {
    if (settings.dense()) pixels += static_cast<double>(settings.flips()) * size.width * size.height;
    pixels += static_cast<double>(settings.crop_views()) * crop * crop;
  }
  return pixels;
}

bool SameShapes(const std::vector<ImageSize>& a, const std::vector<ImageSize>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const ImageSize& x, const ImageSize& y) { return x.width == y.width && x.height == y.height; });
}

// Larger areas first, then wider ones.
bool ShapesBefore(const std::vector<ImageSize>& a, const std::vector<ImageSize>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    const int64_t area_a = int64_t{a[i].width} * a[i].height, area_b = int64_t{b[i].width} * b[i].height;
    if (area_a != area_b) return area_a > area_b;
    if (a[i].width != b[i].width) return a[i].width > b[i].width;
  }
  return false;
}

}  // namespace

Result<std::vector<TestedImage>> SurveyImages(const StoreReader& store, const SplitInfo& split, const TestSettings& settings,
                                              int64_t count, int rank, int world_size, std::atomic<int64_t>* progress) {
  std::vector<TestedImage> images(static_cast<size_t>(count));
  RecordBuffer buffer;
  for (int64_t number = rank; number < count; number += world_size) {
    PLATEAU_TRY(store.Read(split, SourceOrdinal(split, static_cast<uint64_t>(number)), buffer));
    const RecordHeader& header = buffer.record.header;
    PLATEAU_TRY(CheckRecord(header, split, store.manifest(), settings));
    images[static_cast<size_t>(number)] = {static_cast<int32_t>(header.width), static_cast<int32_t>(header.height), header.label};
    if (progress != nullptr) ++*progress;
  }
  return images;
}

void ShareSurvey(Collective& collective, std::vector<TestedImage>& images) {
  std::vector<int64_t> values;
  values.reserve(3 * images.size());
  for (const TestedImage& image : images) values.insert(values.end(), {image.width, image.height, image.label});
  collective.AllReduceSum(std::span<int64_t>(values));
  for (size_t i = 0; i < images.size(); ++i)
    images[i] = {static_cast<int32_t>(values[3 * i]), static_cast<int32_t>(values[3 * i + 1]),
                 static_cast<int32_t>(values[3 * i + 2])};
}

std::vector<ImageGroup> MakeGroups(const std::vector<TestedImage>& images, const TestSettings& settings, int crop, int channels) {
  std::vector<std::vector<ImageSize>> shapes;
  for (const TestedImage& image : images) {
    auto& scaled = shapes.emplace_back();
    for (const int scale : settings.scales) scaled.push_back(ScaledSize(image.width, image.height, scale));
    // Crops of one place and size pass through the same plan whatever they are cut from.
    if (settings.mode == EvaluationMode::kCenter)
      for (ImageSize& size : scaled) size = {crop, crop};
  }
  std::vector<int64_t> order(images.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return ShapesBefore(shapes[static_cast<size_t>(a)], shapes[static_cast<size_t>(b)]);
  });
  std::vector<ImageGroup> groups;
  int limit = 0;
  for (const int64_t number : order) {
    const auto& scaled = shapes[static_cast<size_t>(number)];
    if (groups.empty() || !SameShapes(groups.back().scaled, scaled) || std::ssize(groups.back().images) >= limit) {
      groups.push_back({.scaled = scaled});
      limit = GroupLimit(settings, scaled, crop, channels);
    }
    groups.back().images.push_back(number);
    groups.back().cost += ImageCost(settings, scaled, crop);
  }
  return groups;
}

GroupRange ShareOfRank(const std::vector<ImageGroup>& groups, int rank, int world_size) {
  PLATEAU_CHECK(rank >= 0 && rank < world_size, "rank {} of {}", rank, world_size);
  double total = 0;
  for (const ImageGroup& group : groups) total += group.cost;
  // A group belongs to the rank in whose share its middle lies.
  GroupRange range{groups.size(), groups.size()};
  double before = 0;
  for (size_t i = 0; i < groups.size(); ++i) {
    const double middle = (before + groups[i].cost / 2) / total * world_size;
    before += groups[i].cost;
    const int owner = std::clamp(static_cast<int>(middle), 0, world_size - 1);
    if (owner == rank && range.first == groups.size()) range.first = i;
    if (owner == rank) range.last = i + 1;
  }
  if (range.first == groups.size()) range.last = range.first;
  return range;
}

std::vector<int> CutIntoPasses(int rows, int most) {
  PLATEAU_CHECK(rows > 0 && most > 0, "{} rows, at most {}", rows, most);
  const int passes = (rows + most - 1) / most;
  std::vector<int> cut(static_cast<size_t>(passes), rows / passes);
  for (int i = 0; i < rows % passes; ++i) ++cut[static_cast<size_t>(i)];
  return cut;
}

}  // namespace plateau
