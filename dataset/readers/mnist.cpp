// Splits IDX files into training and validation images.
#include "dataset/readers/mnist.h"

#include <algorithm>

#include "dataset/readers/idx_file.h"
#include "dataset/readers/label_file.h"

namespace plateau {
namespace {

constexpr uint64_t kLargestSide = 4096;

struct Labelled {
  std::string path, labels_path;
  std::shared_ptr<const IdxFile> images;
  std::vector<uint8_t> labels;
};

class IdxSource final : public ImageSource {
 public:
  // Images [begin, begin + count) of the file.
  IdxSource(std::string split, const Labelled& from, uint64_t begin, uint64_t count)
      : split_(std::move(split)), path_(from.path), file_(from.images) {
    const uint64_t bytes = file_->sizes[1] * file_->sizes[2];
    for (uint64_t i = begin; i < begin + count; ++i)
      images_.push_back({fmt::format("{:05}", i), file_->data + i * bytes, bytes, from.labels[i]});
  }
  const std::string& split() const override { return split_; }
  const std::string& place() const override { return path_; }
  const std::vector<SourceImage>& images() const override { return images_; }
  RawShape raw() const override { return {static_cast<int>(file_->sizes[2]), static_cast<int>(file_->sizes[1]), 1}; }
  Status Read(uint64_t ordinal, std::string& bytes) const override {
    const auto& image = images_.at(ordinal);
    bytes.assign(file_->bytes, image.offset, image.bytes);
    return {};
  }

 private:
  std::string split_, path_;
  std::shared_ptr<const IdxFile> file_;
  std::vector<SourceImage> images_;
};

Result<Labelled> ReadLabelled(const std::string& images, const std::string& labels) {
  PLATEAU_ASSIGN(auto pixels, ReadIdx(images, 3));
  PLATEAU_ASSIGN(const auto numbers, ReadIdx(labels, 1));
  if (pixels.sizes[1] > kLargestSide || pixels.sizes[2] > kLargestSide)
    return Fail(ErrorCode::kInvalidInput, "{}: images of {} x {} pixels; a side has at most {}", images, pixels.sizes[2],
                pixels.sizes[1], kLargestSide);
  if (pixels.sizes[0] != numbers.sizes[0])
    return Fail(ErrorCode::kInvalidInput, "{} holds {} images, but {} holds {} labels; the two do not belong together", images,
                pixels.sizes[0], labels, numbers.sizes[0]);
  Labelled out{images, labels, std::make_shared<const IdxFile>(std::move(pixels)), {}};
  out.labels.assign(numbers.bytes.begin() + static_cast<std::ptrdiff_t>(numbers.data), numbers.bytes.end());
  return out;
}

Status CheckLabels(const Labelled& set, const std::string& synsets, size_t classes) {
  for (size_t i = 0; i < set.labels.size(); ++i)
    if (set.labels[i] >= classes)
      return Fail(ErrorCode::kInvalidInput, "{}: label {} of image {} is outside 0..{}, the classes of {}", set.labels_path,
                  set.labels[i], i, classes - 1, synsets);
  return {};
}

Status CheckPaths(const MnistPaths& paths) {
  if (paths.images.empty() || paths.labels.empty())
    return Fail(ErrorCode::kInvalidInput, "--layout mnist needs --images FILE and --labels FILE");
  if (paths.test_images.empty() != paths.test_labels.empty())
    return Fail(ErrorCode::kInvalidInput, "--test-images and --test-labels go together; {} is missing",
                paths.test_images.empty() ? "--test-images" : "--test-labels");
  if (paths.test_images.empty() == (paths.holdout == 0))
    return Fail(
        ErrorCode::kInvalidInput,
        "--layout mnist needs validation images from one place: --test-images and --test-labels, or --holdout N (the last N of "
        "--images)");
  return {};
}

}  // namespace

Result<DataSource> OpenMnist(const MnistPaths& paths) {
  PLATEAU_TRY(CheckPaths(paths));
  PLATEAU_ASSIGN(const auto all, ReadLabelled(paths.images, paths.labels));
  const uint64_t count = all.labels.size();
  if (paths.holdout >= count)
    return Fail(ErrorCode::kInvalidInput, "--holdout {}: {} holds {} images, and at least one must be left to train on",
                paths.holdout, paths.images, count);
  Labelled test = all;
  if (paths.holdout == 0) {
    PLATEAU_ASSIGN(test, ReadLabelled(paths.test_images, paths.test_labels));
    if (!std::equal(test.images->sizes.begin() + 1, test.images->sizes.end(), all.images->sizes.begin() + 1))
      return Fail(ErrorCode::kInvalidInput, "{} has images of {} x {} pixels, {} of {} x {}", paths.images, all.images->sizes[2],
                  all.images->sizes[1], paths.test_images, test.images->sizes[2], test.images->sizes[1]);
  }
  DataSource source;
  if (!paths.synsets.empty()) {
    PLATEAU_ASSIGN(source.classes, ReadSynsetWords(paths.synsets));
    PLATEAU_TRY(CheckLabels(all, paths.synsets, source.classes.size()));
    PLATEAU_TRY(CheckLabels(test, paths.synsets, source.classes.size()));
  } else {
    const int largest = std::max(*std::max_element(all.labels.begin(), all.labels.end()),
                                 *std::max_element(test.labels.begin(), test.labels.end()));
    for (int label = 0; label <= largest; ++label) source.classes.push_back({std::to_string(label), std::to_string(label)});
  }
  source.splits.push_back(std::make_unique<IdxSource>("train", all, 0, count - paths.holdout));
  source.splits.push_back(paths.holdout > 0 ? std::make_unique<IdxSource>("val", all, count - paths.holdout, paths.holdout)
                                            : std::make_unique<IdxSource>("val", test, 0, test.labels.size()));
  source.description = paths.holdout > 0 ? fmt::format("mnist: {}, the last {} held out", paths.images, paths.holdout)
                                         : fmt::format("mnist: {}, {}", paths.images, paths.test_images);
  return source;
}

}  // namespace plateau
