// Scans the ILSVRC tars into lists of (offset, size, name, label).
#include "dataset/readers/ilsvrc.h"

#include <unordered_map>

#include "common/log.h"
#include "common/text.h"
#include "dataset/readers/label_file.h"
#include "dataset/readers/pread_file.h"
#include "dataset/readers/tar_scan.h"
#include "dataset/readers/val_labels.h"

namespace plateau {
namespace {

class TarSource final : public ImageSource {
 public:
  TarSource(std::string split, std::unique_ptr<PreadFile> file, std::vector<SourceImage> images)
      : split_(std::move(split)), file_(std::move(file)), images_(std::move(images)) {}
  const std::string& split() const override { return split_; }
  const std::string& place() const override { return file_->path(); }
  const std::vector<SourceImage>& images() const override { return images_; }
  Status Read(uint64_t ordinal, std::string& bytes) const override {
    const auto& image = images_.at(ordinal);
    return file_->ReadAt(image.offset, image.bytes, bytes);
  }
  void WillRead(uint64_t ordinal) const override { file_->WillRead(images_.at(ordinal).offset, images_.at(ordinal).bytes); }

 private:
  std::string split_;
  std::unique_ptr<PreadFile> file_;
  std::vector<SourceImage> images_;
};

bool EndsWithTar(const std::string& name) { return name.size() > 4 && name.ends_with(".tar"); }

Result<std::unique_ptr<ImageSource>> OpenTrain(const IlsvrcPaths& paths, const std::vector<ClassInfo>& classes) {
  PLATEAU_ASSIGN(auto file, PreadFile::Open(paths.train));
  std::unordered_map<std::string, int32_t> label_of;
  std::vector<std::string> synsets;
  for (const auto& info : classes) {
    label_of.emplace(info.synset, static_cast<int32_t>(synsets.size()));
    synsets.push_back(info.synset);
  }
  std::vector<SourceImage> images;
  std::vector<bool> seen(classes.size());
  PLATEAU_TRY(ScanTar(*file, 0, file->bytes(), paths.train, [&](const TarEntry& tar) -> Status {
    const std::string name = BaseName(tar.name);
    if (!EndsWithTar(name))
      return Fail(ErrorCode::kInvalidInput,
                  "{}: entry {} at offset {} is no .tar; the ilsvrc layout wants a tar of one tar a synset (unpack it and use "
                  "--layout folder)",
                  paths.train, tar.name, tar.offset);
    const std::string synset = name.substr(0, name.size() - 4);
    const auto label = label_of.find(synset);
    if (label == label_of.end()) {
      const auto nearest = NearestName(synset, synsets);
      return Fail(ErrorCode::kInvalidInput, "{}: {} at offset {}: synset {} is not in {}{}", paths.train, tar.name, tar.offset,
                  synset, paths.synsets, nearest.empty() ? "" : " (nearest: " + nearest + ")");
    }
    if (seen[label->second])
      return Fail(ErrorCode::kInvalidInput, "{}: {} at offset {} comes a second time", paths.train, tar.name, tar.offset);
    seen[label->second] = true;
    return ScanTar(*file, tar.offset, tar.bytes, paths.train + ": " + tar.name, [&](const TarEntry& entry) -> Status {
      images.push_back({BaseName(entry.name), entry.offset, entry.bytes, label->second});
      return {};
    });
  }));
  if (images.empty()) return Fail(ErrorCode::kInvalidInput, "{}: holds no images", paths.train);
  for (size_t label = 0; label < seen.size(); ++label)
    if (!seen[label]) LogWarning("{}: no tar for class {} ({}): it has no training images", paths.train, label, synsets[label]);
  return std::unique_ptr<ImageSource>(std::make_unique<TarSource>("train", std::move(file), std::move(images)));
}

Result<std::unique_ptr<ImageSource>> OpenVal(const IlsvrcPaths& paths, const std::vector<ClassInfo>& classes) {
  PLATEAU_ASSIGN(const auto labels, ValLabels::Read({paths.val_labels, paths.devkit_synsets, paths.synsets}, classes));
  PLATEAU_ASSIGN(auto file, PreadFile::Open(paths.val));
  std::vector<SourceImage> images;
  PLATEAU_TRY(ScanTar(*file, 0, file->bytes(), paths.val, [&](const TarEntry& entry) -> Status {
    images.push_back({BaseName(entry.name), entry.offset, entry.bytes, 0});
    return {};
  }));
  if (images.empty()) return Fail(ErrorCode::kInvalidInput, "{}: holds no images", paths.val);
  PLATEAU_TRY(labels.Apply(paths.val, images));
  return std::unique_ptr<ImageSource>(std::make_unique<TarSource>("val", std::move(file), std::move(images)));
}

}  // namespace

Result<DataSource> OpenIlsvrc(const IlsvrcPaths& paths) {
  DataSource source;
  PLATEAU_ASSIGN(source.classes, ReadSynsetWords(paths.synsets));
  PLATEAU_ASSIGN(auto val, OpenVal(paths, source.classes));  // first: it is the quick one
  PLATEAU_ASSIGN(auto train, OpenTrain(paths, source.classes));
  source.splits.push_back(std::move(train));
  source.splits.push_back(std::move(val));
  source.description = fmt::format("ilsvrc: {}, {}", paths.train, paths.val);
  return source;
}

}  // namespace plateau
