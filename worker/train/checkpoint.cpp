// Checkpoints on disk: written beside, fsynced and renamed; verified on load.
#include "worker/train/checkpoint.h"

#include <memory>

#include <nlohmann/json.hpp>

#include "common/checksum.h"
#include "common/safetensors.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kManifestVersion = 1;
constexpr const char* kFiles[] = {"model.safetensors", "momentum.safetensors", "state.json"};
constexpr const char* kManifest = "manifest.json";
constexpr size_t kSyncBytes = size_t{64} << 20;

// Passes bytes on and takes their size and checksum. Each append, and each sync of a few of them, is counted: on slow storage the
// whole may take longer than the hang timeout.
class MeasuredFile final : public WritableFile {
 public:
  MeasuredFile(std::unique_ptr<WritableFile> file, std::atomic<int64_t>* progress) : file_(std::move(file)), progress_(progress) {}
  Status Append(std::string_view bytes) override {
    checksum_.Add(bytes.data(), bytes.size());
    bytes_ += bytes.size();
    PLATEAU_TRY(file_->Append(bytes));
    Count();
    unsynced_bytes_ += bytes.size();
    if (unsynced_bytes_ >= kSyncBytes) return Sync();
    return {};
  }
  Status Sync() override {
    unsynced_bytes_ = 0;
    PLATEAU_TRY(file_->Sync());
    Count();
    return {};
  }
  Status Close() override { return file_->Close(); }
  uint64_t bytes() const { return bytes_; }
  std::string checksum() const { return ChecksumText(checksum_.Value()); }

 private:
  void Count() {
    if (progress_ != nullptr) ++*progress_;
  }

  std::unique_ptr<WritableFile> file_;
  std::atomic<int64_t>* progress_;
  size_t unsynced_bytes_ = 0;
  ChecksumStream checksum_;
  uint64_t bytes_ = 0;
};

// Creates <folder>/<name>, lets `write` fill it, syncs, closes; adds its line to the manifest.
template <typename Write>
Status WriteMeasured(FileSystem& files, const std::string& folder, const std::string& name, Json& manifest,
                     std::atomic<int64_t>* progress, Write write) {
  PLATEAU_ASSIGN(auto raw, files.Create(folder + "/" + name));
  MeasuredFile file(std::move(raw), progress);
  PLATEAU_TRY(write(file));
  PLATEAU_TRY(file.Sync());
  PLATEAU_TRY(file.Close());
  manifest.push_back({{"name", name}, {"bytes", file.bytes()}, {"checksum", file.checksum()}});
  return {};
}

Result<WrittenCheckpoint> WriteInto(FileSystem& files, const std::string& folder, const ParameterSnapshot& parameters,
                                    const CheckpointState& state, std::atomic<int64_t>* progress) {
  PLATEAU_TRY(files.MakeDirectories(folder));
  Json list = Json::array();
  const ModelMetadata metadata = MakeModelMetadata(state.identity);
  PLATEAU_TRY(WriteMeasured(files, folder, kFiles[0], list, progress, [&](WritableFile& file) {
    return parameters.Write(file, ParameterSnapshot::Values::kWeights, metadata);
  }));
  PLATEAU_TRY(WriteMeasured(files, folder, kFiles[1], list, progress, [&](WritableFile& file) {
    return parameters.Write(file, ParameterSnapshot::Values::kMomenta, {{"format", "plateau-momentum"}});
  }));
  const std::string text = EncodeState(state);
  PLATEAU_TRY(WriteMeasured(files, folder, kFiles[2], list, progress, [&](WritableFile& file) { return file.Append(text); }));
  WrittenCheckpoint written{.folder = folder};
  for (const Json& file : list) written.bytes += file.at("bytes").get<uint64_t>();
  const std::string manifest =
      Json{{"version", kManifestVersion}, {"step", state.train.step}, {"files", std::move(list)}}.dump(2) + "\n";
  PLATEAU_TRY(WriteFileAtomic(files, folder + "/" + kManifest, manifest));
  written.bytes += manifest.size();
  written.manifest_checksum = ChecksumText(Checksum(manifest));
  PLATEAU_TRY(files.SyncDirectory(folder));
  return written;
}

}  // namespace

ModelMetadata MakeModelMetadata(const RunIdentity& identity) {
  const Preprocessing& p = identity.preprocessing;
  const auto triple = [](const std::array<float, 3>& v) { return fmt::format("{},{},{}", v[0], v[1], v[2]); };
  return {{"format", "plateau-model"},
          {"network", identity.network},
          {"width", fmt::format("{}", identity.width)},
          {"classes", fmt::format("{}", identity.classes.size())},
          {"crop", fmt::format("{}", p.crop)},
          {"validation_scale", fmt::format("{}", identity.validation_scale)},
          {"channel_order", "RGB"},
          {"mean", triple(p.mean)},
          {"standard_deviation", triple(p.standard_deviation)}};
}

std::string CheckpointFolderName(int64_t step) { return fmt::format("step-{:09}", step); }

Result<WrittenCheckpoint> WriteCheckpoint(FileSystem& files, const std::string& attempt_folder, const ParameterSnapshot& parameters,
                                          const CheckpointState& state, std::atomic<int64_t>* progress) {
  const std::string folder = attempt_folder + "/" + CheckpointFolderName(state.train.step);
  const std::string beside = folder + ".tmp";
  PLATEAU_TRY(files.RemoveAll(beside));
  auto written = WriteInto(files, beside, parameters, state, progress);
  Status done;
  if (!written) done = Fail(written.error());
  if (done && files.Exists(folder)) done = DeleteCheckpoint(files, folder);  // of an interrupted life of this attempt
  if (done) done = files.Rename(beside, folder);
  if (done) done = files.SyncDirectory(attempt_folder);
  if (!done) {
    Error error = std::move(done.error());
    if (const auto removed = files.RemoveAll(beside); !removed) error.message += "; also: " + removed.error().message;
    const char* remedy = error.code == ErrorCode::kNumeric ? "lower lr.initial, or look at training.init and data.normalize"
                                                           : "make room or mend the disk, then resume";
    error.message = fmt::format("checkpoint of step {} was not written: {}; older checkpoints are untouched: {}", state.train.step,
                                error.message, remedy);
    return Fail(std::move(error));
  }
  written->folder = folder;
  return written;
}

Status DeleteCheckpoint(FileSystem& files, const std::string& folder) {
  const Status removed = files.Remove(folder + "/" + kManifest);
  if (!removed && removed.error().code != ErrorCode::kNotFound) return removed;
  return files.RemoveAll(folder);
}

Result<LoadedCheckpoint> LoadCheckpoint(FileSystem& files, const std::string& folder, CheckpointParts parts) {
  LoadedCheckpoint loaded{.folder = folder};
  const std::string manifest_path = folder + "/" + kManifest;
  PLATEAU_ASSIGN(const std::string manifest_text, files.Read(manifest_path));
  std::string state_text;
  std::string* targets[] = {&loaded.model, &loaded.momentum, &state_text};
  try {
    const Json manifest = Json::parse(manifest_text);
    if (manifest.at("version") != kManifestVersion)
      return Fail(ErrorCode::kUnsupported, "{}: manifest version {}, this build reads {}", manifest_path,
                  manifest.at("version").dump(), kManifestVersion);
    std::map<std::string, Json> listed;
    for (const Json& file : manifest.at("files")) listed[file.at("name")] = file;
    for (size_t i = 0; i < std::size(kFiles); ++i) {
      if (targets[i] == &loaded.momentum && parts == CheckpointParts::kWithoutMomentum) continue;
      const std::string path = folder + "/" + kFiles[i];
      const Json& file = listed[kFiles[i]];
      PLATEAU_ASSIGN(*targets[i], files.Read(path));
      if (const auto bytes = file.at("bytes").get<uint64_t>(); targets[i]->size() != bytes)
        return Fail(ErrorCode::kCorrupt, "{}: has {} bytes, its manifest says {}", path, targets[i]->size(), bytes);
      const std::string checksum = ChecksumText(Checksum(*targets[i]));
      if (checksum != file.at("checksum"))
        return Fail(ErrorCode::kCorrupt, "{}: checksum is {}, its manifest says {}: the file is damaged", path, checksum,
                    file.at("checksum").get<std::string>());
    }
  } catch (const std::exception& fault) {
    return Fail(ErrorCode::kCorrupt, "{}: {}", manifest_path, fault.what());
  }
  PLATEAU_ASSIGN(loaded.state, DecodeState(state_text, folder + "/state.json"));
  return loaded;
}

Result<std::string> ManifestChecksum(FileSystem& files, const std::string& folder) {
  PLATEAU_ASSIGN(const std::string text, files.Read(folder + "/" + kManifest));
  return ChecksumText(Checksum(text));
}

Status ApplyCheckpoint(const LoadedCheckpoint& checkpoint, ParameterStore& parameters) {
  PLATEAU_ASSIGN(const auto model, SafetensorsFile::Parse(checkpoint.model, checkpoint.folder + "/model.safetensors"));
  PLATEAU_ASSIGN(const auto momentum, SafetensorsFile::Parse(checkpoint.momentum, checkpoint.folder + "/momentum.safetensors"));
  for (int p = 0; p < parameters.count(); ++p) {
    const ParameterInfo& info = parameters.info(p);
    PLATEAU_ASSIGN(const auto weight, model.Floats(info.name, info.shape));
    PLATEAU_ASSIGN(const auto velocity, momentum.Floats(info.name, info.shape));
    parameters.FromCanonical(p, weight, parameters.weight(p));
    parameters.FromCanonical(p, velocity, parameters.momentum(p));
  }
  parameters.WeightsChanged();
  return {};
}

}  // namespace plateau
