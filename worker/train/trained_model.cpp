// Opens the weights of a checkpoint.
#include "worker/train/trained_model.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "worker/train/checkpoint.h"
#include "worker/train/run_folder.h"

namespace plateau {
namespace {

// Input channels are not in the state: the first convolution's weights tell.
int ChannelsOf(const SafetensorsFile& weights, const Network& network) {
  for (const LayerDef& layer : network.layers) {
    const auto found = weights.tensors().find(layer.name + ".weight");
    if (layer.inputs[0] < 0 && found != weights.tensors().end() && found->second.shape.size() == 4)
      return static_cast<int>(std::clamp<int64_t>(found->second.shape[1], 1, 1 << 16));
  }
  return network.channels;
}

Result<Network> NetworkOf(const RunIdentity& identity, const SafetensorsFile& weights) {
  NetworkOptions options{.width = identity.width, .classes = static_cast<int>(identity.classes.size())};
  PLATEAU_ASSIGN(const Network network, MakeNetwork(identity.network, options));
  options.channels = ChannelsOf(weights, network);
  return MakeNetwork(identity.network, options);
}

Status CheckTensors(const TrainedModel& model) {
  const int crop = model.identity.preprocessing.crop;
  PLATEAU_ASSIGN(const auto shapes, InferShapes(model.network, crop, crop));
  std::set<std::string> known;
  for (const ParameterInfo& info : ListParameters(model.network, shapes)) {
    known.insert(info.name);
    PLATEAU_ASSIGN(const auto values, model.weights.Floats(info.name, info.shape));
    const auto bad = std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
    if (bad != values.end())
      return Fail(ErrorCode::kNumeric, "{}: tensor {} holds {} at position {}: its run diverged; use an older checkpoint",
                  model.weights.path(), info.name, *bad, bad - values.begin());
  }
  for (const auto& [name, tensor] : model.weights.tensors())
    if (!known.contains(name))
      return Fail(ErrorCode::kInvalidInput, "{}: tensor {} is none of {}: the weights are another network's", model.weights.path(), name,
                  model.network.name);
  return {};
}

}  // namespace

Result<std::string> FindCheckpoint(FileSystem& files, const std::string& path) {
  std::string folder = path;
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  if (!files.Exists(folder)) return Fail(ErrorCode::kNotFound, "{}: there is no such checkpoint or run folder", folder);
  if (!std::filesystem::is_directory(folder))
    return Fail(ErrorCode::kInvalidInput, "{}: is a file; give the folder of a checkpoint (step-...) or of a run (with current.json)",
                folder);
  if (files.Exists(folder + "/manifest.json")) return folder;
  PLATEAU_ASSIGN(const auto current, ReadCurrent(files, folder));
  if (!current)
    return Fail(ErrorCode::kInvalidInput, "{}: holds neither manifest.json (a checkpoint) nor current.json (a run); give the folder of one",
                folder);
  const std::string published = folder + "/" + current->path;
  PLATEAU_ASSIGN(const std::string checksum, ManifestChecksum(files, published));
  if (checksum != current->checksum)
    return Fail(ErrorCode::kCorrupt, "{}/manifest.json: checksum is {}, {}/current.json says {}; give another checkpoint's folder",
                published, checksum, folder, current->checksum);
  return published;
}

Result<TrainedModel> OpenTrainedModel(FileSystem& files, const std::string& path) {
  TrainedModel model;
  PLATEAU_ASSIGN(model.folder, FindCheckpoint(files, path));
  PLATEAU_ASSIGN(LoadedCheckpoint loaded, LoadCheckpoint(files, model.folder, CheckpointParts::kWithoutMomentum));
  model.identity = std::move(loaded.state.identity);
  model.step = loaded.state.train.step;
  PLATEAU_ASSIGN(model.weights, SafetensorsFile::Parse(std::move(loaded.model), model.folder + "/model.safetensors"));
  PLATEAU_ASSIGN(model.network, NetworkOf(model.identity, model.weights));
  model.identity.preprocessing.channels = model.network.channels;
  PLATEAU_TRY(CheckTensors(model));
  return model;
}

Status FillParameters(const TrainedModel& model, ParameterStore& store) {
  for (int p = 0; p < store.count(); ++p) {
    PLATEAU_ASSIGN(const auto values, model.weights.Floats(store.info(p).name, store.info(p).shape));
    store.FromCanonical(p, values, store.weight(p));
  }
  store.WeightsChanged();
  return {};
}

}  // namespace plateau
