// The synthetic set as a source, and its writers: tars by libarchive, files by FileSystem.
#include "dataset/synthesize.h"

#include <functional>
#include <memory>

#include <archive.h>
#include <archive_entry.h>

#include "common/random.h"
#include "dataset/decode.h"
#include "dataset/readers/synthetic.h"

namespace plateau {
namespace {

constexpr int kQuality = 90;
constexpr time_t kTime = 1340000000;  // one fixed time for every entry, so that the bytes depend on the options only

class SyntheticSource final : public ImageSource {
 public:
  SyntheticSource(std::string split, uint64_t number, const SynthesizeOptions& options, std::vector<SourceImage> images)
      : split_(std::move(split)), place_("synthetic " + split_), number_(number), options_(options), images_(std::move(images)) {}
  const std::string& split() const override { return split_; }
  const std::string& place() const override { return place_; }
  const std::vector<SourceImage>& images() const override { return images_; }
  Status Read(uint64_t ordinal, std::string& bytes) const override {
    Image image;
    DrawSynthetic(images_.at(ordinal).label, options_.classes, options_.side, options_.seed, number_, ordinal, image);
    PLATEAU_ASSIGN(bytes, EncodeJpeg(image, kQuality));
    return {};
  }

 private:
  std::string split_, place_;
  uint64_t number_;
  SynthesizeOptions options_;
  std::vector<SourceImage> images_;
};

// A tar under way: entries are appended to a growing text or to a file.
class TarWriter {
 public:
  explicit TarWriter(std::string* text) : text_(text) { Open(); }
  explicit TarWriter(WritableFile* file) : file_(file) { Open(); }

  Status Add(const std::string& name, std::string_view bytes) {
    const std::unique_ptr<archive_entry, void (*)(archive_entry*)> entry(archive_entry_new(), archive_entry_free);
    archive_entry_set_pathname(entry.get(), name.c_str());
    archive_entry_set_size(entry.get(), static_cast<la_int64_t>(bytes.size()));
    archive_entry_set_filetype(entry.get(), AE_IFREG);
    archive_entry_set_perm(entry.get(), 0644);
    archive_entry_set_mtime(entry.get(), kTime, 0);
    if (archive_write_header(tar_.get(), entry.get()) != ARCHIVE_OK) return Failed(name);
    if (archive_write_data(tar_.get(), bytes.data(), bytes.size()) != static_cast<la_ssize_t>(bytes.size())) return Failed(name);
    return {};
  }
  Status Finish() { return archive_write_close(tar_.get()) == ARCHIVE_OK ? Status{} : Failed("the end marker"); }

 private:
  void Open() {
    archive_write_set_format_ustar(tar_.get());
    archive_write_open(tar_.get(), this, nullptr, Write, nullptr);
  }
  static la_ssize_t Write(archive*, void* self, const void* data, size_t bytes) {
    auto& writer = *static_cast<TarWriter*>(self);
    const std::string_view piece(static_cast<const char*>(data), bytes);
    if (writer.text_ != nullptr)
      writer.text_->append(piece);
    else if (writer.status_ = writer.file_->Append(piece); !writer.status_)
      return ARCHIVE_FATAL;
    return static_cast<la_ssize_t>(bytes);
  }
  Status Failed(const std::string& name) const {
    if (!status_) return status_;
    const char* text = archive_error_string(tar_.get());
    return Fail(ErrorCode::kIo, "cannot write {} into the tar: {}", name, text != nullptr ? text : "unknown error");
  }

  std::string* text_ = nullptr;
  WritableFile* file_ = nullptr;
  Status status_;
  std::unique_ptr<archive, int (*)(archive*)> tar_{archive_write_new(),
                                                   archive_write_free};  // last: freed before what it writes to
};

// Writes `path` beside and renames it; `fill` puts the entries in.
Status WriteTar(FileSystem& files, const std::string& path, const std::function<Status(TarWriter&)>& fill) {
  PLATEAU_ASSIGN(auto file, files.Create(path + ".part"));
  TarWriter tar(file.get());
  PLATEAU_TRY(fill(tar));
  PLATEAU_TRY(tar.Finish());
  PLATEAU_TRY(file->Sync());
  PLATEAU_TRY(file->Close());
  return files.Rename(path + ".part", path);
}

Status WriteSynsets(FileSystem& files, const DataSource& source, const std::string& out) {
  std::string text;
  for (const auto& info : source.classes) text += info.synset + " " + info.words + "\n";
  return WriteFileAtomic(files, out + "/synset_words.txt", text);
}

// One tar a synset, in class order; train's images lie class by class.
Status FillTrain(const DataSource& source, TarWriter& outer) {
  const auto& train = *source.splits[0];
  std::string bytes;
  uint64_t ordinal = 0;
  for (int32_t label = 0; ordinal < train.images().size(); ++label) {
    std::string text;
    TarWriter inner(&text);
    for (; ordinal < train.images().size() && train.images()[ordinal].label == label; ++ordinal) {
      PLATEAU_TRY(train.Read(ordinal, bytes));
      PLATEAU_TRY(inner.Add(train.images()[ordinal].name, bytes));
    }
    PLATEAU_TRY(inner.Finish());
    PLATEAU_TRY(outer.Add(source.classes[label].synset + ".tar", text));
  }
  return {};
}

}  // namespace

Result<DataSource> OpenSynthetic(const SynthesizeOptions& options) {
  if (options.classes < 2 || options.classes > kSyntheticClasses)
    return Fail(ErrorCode::kInvalidInput, "--classes: {} is outside 2..{}", options.classes, kSyntheticClasses);
  if (options.side < 8 || options.side > 4096)
    return Fail(ErrorCode::kInvalidInput, "--size: {} is outside 8..4096 pixels", options.side);
  const uint64_t classes = static_cast<uint64_t>(options.classes);
  if (options.train < classes || options.val < 1)
    return Fail(ErrorCode::kInvalidInput,
                "--train {} --val {}: train needs at least one image for each of the {} classes, val at least one", options.train,
                options.val, classes);
  DataSource source;
  for (int label = 0; label < options.classes; ++label) source.classes.push_back(SyntheticClass(label, options.classes));
  std::vector<SourceImage> train, val;
  for (uint64_t label = 0; label < classes; ++label) {
    const uint64_t images = options.train / classes + (label < options.train % classes ? 1 : 0);
    for (uint64_t i = 0; i < images; ++i)
      train.push_back({fmt::format("{}_{}.JPEG", source.classes[label].synset, i + 1), 0, 0, static_cast<int32_t>(label)});
  }
  const Permutation order(options.seed, RandomPurpose::kSynthetic, 2, options.val);
  for (uint64_t i = 0; i < options.val; ++i)
    val.push_back({fmt::format("ILSVRC2012_val_{:08}.JPEG", i + 1), 0, 0, static_cast<int32_t>(order(i) % classes)});
  source.splits.push_back(std::make_unique<SyntheticSource>("train", 0, options, std::move(train)));
  source.splits.push_back(std::make_unique<SyntheticSource>("val", 1, options, std::move(val)));
  source.description = fmt::format("synthetic: {} classes, side {}, seed {}", options.classes, options.side, options.seed);
  return source;
}

Status WriteIlsvrc(FileSystem& files, const DataSource& source, const std::string& out) {
  PLATEAU_TRY(files.MakeDirectories(out));
  const auto& val = *source.splits[1];
  PLATEAU_TRY(WriteTar(files, out + "/train.tar", [&](TarWriter& tar) { return FillTrain(source, tar); }));
  std::string labels;
  PLATEAU_TRY(WriteTar(files, out + "/val.tar", [&](TarWriter& tar) -> Status {
    std::string bytes;
    for (uint64_t ordinal = 0; ordinal < val.images().size(); ++ordinal) {
      const auto& image = val.images()[ordinal];
      PLATEAU_TRY(val.Read(ordinal, bytes));
      PLATEAU_TRY(tar.Add(image.name, bytes));
      labels += fmt::format("{} {}\n", image.name, image.label);
    }
    return {};
  }));
  PLATEAU_TRY(WriteFileAtomic(files, out + "/val.txt", labels));
  return WriteSynsets(files, source, out);
}

Status WriteFolders(FileSystem& files, const DataSource& source, const std::string& out) {
  std::string bytes;
  for (const auto& split : source.splits) {
    for (uint64_t ordinal = 0; ordinal < split->images().size(); ++ordinal) {
      PLATEAU_TRY(split->Read(ordinal, bytes));
      const std::string folder =
          fmt::format("{}/{}/{}", out, split->split(), source.classes[split->images()[ordinal].label].synset);
      PLATEAU_TRY(files.MakeDirectories(folder));  // only of classes that have images
      PLATEAU_ASSIGN(auto file, files.Create(folder + "/" + split->images()[ordinal].name));
      PLATEAU_TRY(file->Append(bytes));
      PLATEAU_TRY(file->Close());
    }
  }
  return WriteSynsets(files, source, out);
}

}  // namespace plateau
