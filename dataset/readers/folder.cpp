// Lists class folders into sorted files with labels.
#include "dataset/readers/folder.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "common/file.h"
#include "dataset/readers/label_file.h"
#include "dataset/readers/pread_file.h"
#include "dataset/readers/val_labels.h"

namespace plateau {
namespace {

namespace fs = std::filesystem;

class FolderSource final : public ImageSource {
 public:
  FolderSource(std::string split, std::string folder, std::vector<SourceImage> images)
      : split_(std::move(split)), folder_(std::move(folder)), images_(std::move(images)) {}
  const std::string& split() const override { return split_; }
  const std::string& place() const override { return folder_; }
  const std::vector<SourceImage>& images() const override { return images_; }
  Status Read(uint64_t ordinal, std::string& bytes) const override {
    const auto& image = images_.at(ordinal);
    PLATEAU_ASSIGN(const auto file, PreadFile::Open(folder_ + "/" + image.name));
    return file->ReadAt(0, file->bytes(), bytes);
  }

 private:
  std::string split_, folder_;
  std::vector<SourceImage> images_;
};

// Class folders of `folder`, sorted.
Result<std::vector<std::string>> ListClasses(const std::string& folder) {
  PosixFileSystem files;
  if (!fs::is_directory(folder))
    return Fail(ErrorCode::kNotFound, "{}: no such folder; expected a folder of class folders", folder);
  PLATEAU_ASSIGN(const auto names, files.List(folder));
  std::vector<std::string> classes;
  for (const auto& name : names)
    if (name[0] != '.' && fs::is_directory(folder + "/" + name)) classes.push_back(name);
  if (classes.empty())
    return Fail(ErrorCode::kInvalidInput, "{}: holds no class folders; expected {}/<class>/<image>", folder, folder);
  return classes;
}

// Paths relative to `folder` of every file below `folder``name` ("" or "/class"), sorted.
Result<std::vector<std::string>> ListFiles(const std::string& folder, const std::string& name) {
  std::vector<std::string> found;
  std::error_code error;
  const auto options = fs::directory_options::follow_directory_symlink;
  for (fs::recursive_directory_iterator it(folder + name, options, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string()[0] == '.') {
      it.disable_recursion_pending();
      continue;
    }
    if (it->is_regular_file()) found.push_back(it->path().string().substr(folder.size() + 1));
  }
  if (error) return Fail(ErrorCode::kIo, "{}{}: cannot list: {}", folder, name, error.message());
  std::sort(found.begin(), found.end());
  return found;
}

void AddImages(const std::string& folder, const std::vector<std::string>& files, int32_t label, std::vector<SourceImage>& images) {
  for (const auto& file : files) {
    std::error_code error;
    const auto bytes = fs::file_size(folder + "/" + file, error);
    images.push_back({file, 0, error ? 0 : static_cast<uint64_t>(bytes), label});
  }
}

Result<std::unique_ptr<ImageSource>> OpenSplit(const std::string& split, const std::string& folder,
                                               const std::map<std::string, int32_t>& labels) {
  PLATEAU_ASSIGN(const auto classes, ListClasses(folder));
  std::vector<SourceImage> images;
  for (const auto& name : classes) {
    const auto label = labels.find(name);
    if (label == labels.end())
      return Fail(ErrorCode::kInvalidInput, "{}/{}: class {} is not known; classes are those of the train folder (or of --synsets)",
                  folder, name, name);
    PLATEAU_ASSIGN(const auto files, ListFiles(folder, "/" + name));
    if (files.empty())
      return Fail(ErrorCode::kInvalidInput, "{}/{}: the class folder is empty; add images or remove it", folder, name);
    AddImages(folder, files, label->second, images);
  }
  return std::unique_ptr<ImageSource>(std::make_unique<FolderSource>(split, folder, std::move(images)));
}

// A val folder whose labels stand in a file.
Result<std::unique_ptr<ImageSource>> OpenLabelled(const FolderPaths& paths, const std::string& folder,
                                                  const std::vector<ClassInfo>& classes) {
  const std::string& synsets = paths.synsets.empty() ? paths.train : paths.synsets;
  PLATEAU_ASSIGN(const auto labels, ValLabels::Read({paths.val_labels, paths.devkit_synsets, synsets}, classes));
  if (!fs::is_directory(folder))
    return Fail(ErrorCode::kNotFound, "{}: no such folder; expected the images of {}", folder, paths.val_labels);
  PLATEAU_ASSIGN(const auto files, ListFiles(folder, ""));
  if (files.empty()) return Fail(ErrorCode::kInvalidInput, "{}: holds no images", folder);
  std::vector<SourceImage> images;
  AddImages(folder, files, 0, images);
  PLATEAU_TRY(labels.Apply(folder, images));
  return std::unique_ptr<ImageSource>(std::make_unique<FolderSource>("val", folder, std::move(images)));
}

std::string WithoutSlash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

Result<DataSource> OpenFolder(const FolderPaths& paths) {
  const std::string train_folder = WithoutSlash(paths.train), val_folder = WithoutSlash(paths.val);
  DataSource source;
  if (!paths.synsets.empty()) {
    PLATEAU_ASSIGN(source.classes, ReadSynsetWords(paths.synsets));
  } else {
    PLATEAU_ASSIGN(const auto names, ListClasses(train_folder));
    for (const auto& name : names) source.classes.push_back({name, name});
  }
  std::map<std::string, int32_t> labels;
  for (const auto& info : source.classes) labels.emplace(info.synset, static_cast<int32_t>(labels.size()));
  PLATEAU_ASSIGN(auto train, OpenSplit("train", train_folder, labels));
  PLATEAU_ASSIGN(auto val,
                 paths.val_labels.empty() ? OpenSplit("val", val_folder, labels) : OpenLabelled(paths, val_folder, source.classes));
  source.splits.push_back(std::move(train));
  source.splits.push_back(std::move(val));
  source.description = fmt::format("folder: {}, {}", train_folder, val_folder);
  return source;
}

}  // namespace plateau
