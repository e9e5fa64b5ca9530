// Finds a checkpoint, and fills the engines that test it.
#include "worker/evaluate_model.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include <nlohmann/json.hpp>

#include "common/safetensors.h"
#include "worker/evaluate/dense_network.h"
#include "worker/train/agreement.h"
#include "worker/train/checkpoint.h"
#include "worker/train/trained_model.h"

namespace plateau {
namespace {

// What rank 0 read: the state for all, the weights for itself.
struct FoundModel {
  LoadedCheckpoint checkpoint;
  std::optional<SafetensorsFile> weights;
};

Result<std::string> ReadModel(FileSystem& files, const std::string& path, FoundModel& found) {
  PLATEAU_ASSIGN(const std::string folder, FindCheckpoint(files, path));
  PLATEAU_ASSIGN(found.checkpoint, LoadCheckpoint(files, folder, CheckpointParts::kWithoutMomentum));
  PLATEAU_ASSIGN(const std::string checksum, ManifestChecksum(files, folder));
  PLATEAU_ASSIGN(found.weights, SafetensorsFile::Parse(std::move(found.checkpoint.model), folder + "/model.safetensors"));
  return nlohmann::json{{"folder", folder}, {"checksum", checksum}, {"state", EncodeState(found.checkpoint.state)}}.dump();
}

Status CheckClasses(const RunIdentity& identity, const std::string& folder, const Manifest& store) {
  if (identity.classes.size() != store.classes.size())
    return Fail(ErrorCode::kInvalidInput, "{}: trained on {} classes, data set {} has {}; test it on the data it was trained for",
                folder, identity.classes.size(), store.name, store.classes.size());
  for (size_t c = 0; c < store.classes.size(); ++c)
    if (identity.classes[c].synset != store.classes[c].synset)
      return Fail(ErrorCode::kInvalidInput, "{}: its class {} is {} ({}), in data set {} it is {} ({}); the classes must be the same",
                  folder, c, identity.classes[c].synset, identity.classes[c].words, store.name, store.classes[c].synset,
                  store.classes[c].words);
  return {};
}

// Rank 0: every tensor belongs to the network, its input is of the store's channels.
Status CheckTensors(const SafetensorsFile& file, const Network& whole, int crop, const std::string& folder, const Manifest& store) {
  PLATEAU_ASSIGN(const auto shapes, InferShapes(whole, crop, crop));
  std::set<std::string> known;
  for (const ParameterInfo& info : ListParameters(whole, shapes)) known.insert(info.name);
  for (const auto& [name, tensor] : file.tensors()) {
    if (!known.contains(name))
      return Fail(ErrorCode::kInvalidInput, "{}/model.safetensors: tensor '{}' is none of {}: the weights are another network's",
                  folder, name, whole.name);
    if (tensor.shape.size() == 4 && name == whole.layers[0].name + ".weight" && tensor.shape[1] != whole.channels)
      return Fail(ErrorCode::kInvalidInput, "{}: its network takes {} channels, images of data set {} have {}", folder,
                  tensor.shape[1], store.name, store.channels);
  }
  return {};
}

// Rank 0. A convolution that stands for a fully connected layer takes that one's values in their order.
Status FillWeights(const SafetensorsFile& file, const Network& network, int crop, Engine& engine, const std::string& folder) {
  PLATEAU_ASSIGN(const auto shapes, InferShapes(network, crop, crop));
  std::map<std::string, std::vector<int64_t>> canonical;
  for (const ParameterInfo& info : ListParameters(network, shapes)) canonical[info.name] = info.shape;
  ParameterStore& store = engine.parameters();
  for (int p = 0; p < store.count(); ++p) {
    const std::string& name = store.info(p).name;
    PLATEAU_ASSIGN(const auto values, file.Floats(name, canonical.at(name)));
    if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); }))
      return Fail(ErrorCode::kNumeric, "{}/model.safetensors: {} holds a value that is not finite: training had diverged; use an older "
                                       "checkpoint",
                  folder, name);
    store.FromCanonical(p, values, store.weight(p));
  }
  return {};
}

// Collective: rank 0's weights, or its error, for all.
Status ShareWeights(Collective& collective, const FoundModel& found, const Network& network, int crop, Engine& engine,
                    const std::string& folder) {
  Status filled;
  if (collective.rank() == 0) filled = FillWeights(*found.weights, network, crop, engine, folder);
  PLATEAU_TRY(Agree(collective, filled));
  ParameterStore& store = engine.parameters();
  for (int p = 0; p < store.count(); ++p) {
    const std::span<float> values = store.weight(p);
    collective.Broadcast({reinterpret_cast<char*>(values.data()), values.size_bytes()}, 0);
  }
  store.WeightsChanged();
  return {};
}

bool SameLayers(const Network& a, const Network& b) {
  return std::equal(a.layers.begin(), a.layers.end(), b.layers.begin(), b.layers.end(),
                    [](const LayerDef& x, const LayerDef& y) { return x.kind == y.kind; });
}

Status MakeEngines(TestedModel& model, const Network& dense, const TestSettings& settings, const EngineOptions& options) {
  const bool converted = !SameLayers(model.network, dense);
  if (settings.crops() || !converted) {
    PLATEAU_ASSIGN(model.crops, CreateCpuEngine(model.network, options));
  }
  if (settings.dense() && converted) {
    PLATEAU_ASSIGN(model.dense, CreateCpuEngine(dense, options));
  }
  return {};
}

}  // namespace

Result<TestedModel> LoadTestedModel(FileSystem& files, Collective& collective, const std::string& path, const Manifest& store,
                                    TestSettings& settings, int threads, std::atomic<int64_t>* progress) {
  FoundModel found;
  PLATEAU_ASSIGN(const std::string text, ShareText(collective, collective.rank() == 0 ? ReadModel(files, path, found)
                                                                                      : Result<std::string>(std::string())));
  const auto shared = nlohmann::json::parse(text);
  TestedModel model{.folder = shared.at("folder"), .manifest_checksum = shared.at("checksum")};
  PLATEAU_ASSIGN(CheckpointState state, DecodeState(shared.at("state"), model.folder + "/state.json"));
  model.identity = std::move(state.identity);
  model.step = state.train.step;
  const RunIdentity& identity = model.identity;
  const int crop = identity.preprocessing.crop;
  if (settings.scales.empty()) settings.scales = {identity.validation_scale};
  PLATEAU_TRY(CheckSettings(settings, crop));
  PLATEAU_TRY(CheckClasses(identity, model.folder, store));
  PLATEAU_ASSIGN(const Network whole, MakeNetwork(identity.network, {.width = identity.width,
                                                                     .classes = static_cast<int>(identity.classes.size()),
                                                                     .channels = store.channels}));
  model.network = WithoutAuxiliary(whole);
  PLATEAU_ASSIGN(const Network dense, MakeDense(whole, crop));
  Status checked;
  if (collective.rank() == 0) checked = CheckTensors(*found.weights, whole, crop, model.folder, store);
  PLATEAU_TRY(Agree(collective, checked));
  PLATEAU_TRY(Agree(collective, MakeEngines(model, dense, settings, {.threads = threads, .crop = crop, .progress = progress})));
  for (Engine* engine : {model.crops.get(), model.dense.get()})
    if (engine != nullptr) PLATEAU_TRY(ShareWeights(collective, found, model.network, crop, *engine, model.folder));
  return model;
}

}  // namespace plateau
