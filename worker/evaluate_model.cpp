// Finds a checkpoint, and fills the engines that test it.
#include "worker/evaluate_model.h"

#include <algorithm>
#include <map>
#include <optional>

#include <nlohmann/json.hpp>

#include "worker/evaluate/dense_network.h"
#include "worker/train/agreement.h"
#include "worker/train/checkpoint.h"
#include "worker/train/choices_files.h"
#include "worker/train/device_share.h"
#include "worker/train/trained_model.h"

namespace plateau {
namespace {

// What all ranks must know of the model, as JSON.
std::string SharedText(const TrainedModel& model, const std::string& checksum) {
  const CheckpointState state{.identity = model.identity, .train = {.step = model.step}};
  return nlohmann::json{
      {"folder", model.folder}, {"checksum", checksum}, {"channels", model.network.channels}, {"state", EncodeState(state)}}
      .dump();
}

Result<std::string> ReadModel(FileSystem& files, const std::string& path, std::optional<TrainedModel>& found) {
  PLATEAU_ASSIGN(found, OpenTrainedModel(files, path));
  PLATEAU_ASSIGN(const std::string checksum, ManifestChecksum(files, found->folder));
  return SharedText(*found, checksum);
}

Status CheckClasses(const RunIdentity& identity, const std::string& folder, const Manifest& store) {
  if (identity.classes.size() != store.classes.size())
    return Fail(ErrorCode::kInvalidInput, "{}: trained on {} classes, data set {} has {}; test it on the data it was trained for",
                folder, identity.classes.size(), store.name, store.classes.size());
  for (size_t c = 0; c < store.classes.size(); ++c)
    if (identity.classes[c].synset != store.classes[c].synset)
      return Fail(ErrorCode::kInvalidInput,
                  "{}: its class {} is {} ({}), in data set {} it is {} ({}); the classes must be the same (plateau import names "
                  "those of imported weights with "
                  "--synsets)",
                  folder, c, identity.classes[c].synset, identity.classes[c].words, store.name, store.classes[c].synset,
                  store.classes[c].words);
  return {};
}

// A convolution that stands for a fully connected layer takes that one's values in their order.
Status FillWeights(const TrainedModel& model, Engine& engine) {
  const int crop = model.identity.preprocessing.crop;
  PLATEAU_ASSIGN(const auto shapes, InferShapes(model.network, crop, crop));
  std::map<std::string, std::vector<int64_t>> canonical;
  for (const ParameterInfo& info : ListParameters(model.network, shapes)) canonical[info.name] = info.shape;
  ParameterStore& store = engine.parameters();
  for (int p = 0; p < store.count(); ++p) {
    PLATEAU_ASSIGN(const auto values, model.weights.Floats(store.info(p).name, canonical.at(store.info(p).name)));
    store.FromCanonical(p, values, store.weight(p));
  }
  return {};
}

// Collective: rank 0's weights, or its error, for all.
Status ShareWeights(Collective& collective, const std::optional<TrainedModel>& found, Engine& engine) {
  Status filled;
  if (collective.rank() == 0) filled = FillWeights(*found, engine);
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

// Two engines on a device that ranks share plan with half of this rank's part each.
Status MakeEngines(TestedModel& model, const Network& dense, const TestSettings& settings, const DeviceChoice& device,
                   EngineOptions options) {
  const bool converted = !SameLayers(model.network, dense);
  const bool with_crops = settings.crops() || !converted, with_dense = settings.dense() && converted;
  if (with_crops && with_dense) options.device_free_bytes /= 2;
  if (with_crops) {
    PLATEAU_ASSIGN(model.crops, CreateEngine(device, model.network, options));
  }
  if (with_dense) {
    PLATEAU_ASSIGN(model.dense, CreateEngine(device, dense, options));
  }
  return {};
}

}  // namespace

Result<TestedModel> LoadTestedModel(FileSystem& files, Collective& collective, const std::string& path, const Manifest& store,
                                    TestSettings& settings, int threads, const Compute& compute, std::atomic<int64_t>* progress,
                                    StartWatch* watch) {
  std::optional<TrainedModel> found;
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
  if (const int channels = shared.at("channels"); channels != store.channels)
    return Fail(ErrorCode::kInvalidInput, "{}: its network takes {} channels, images of data set {} have {}", model.folder,
                channels, store.name, store.channels);
  PLATEAU_ASSIGN(const Network whole, MakeNetwork(identity.network, {.width = identity.width,
                                                                     .classes = static_cast<int>(identity.classes.size()),
                                                                     .channels = store.channels}));
  model.network = WithoutAuxiliary(whole);
  PLATEAU_ASSIGN(const Network dense, MakeDense(whole, crop));
  model.precision = compute.precision;
  if (compute.device.cuda) model.choices = OpenChoices(files, collective.rank(), identity.choices, RecordedChoices::Use::kTest);
  EngineOptions options{.threads = threads,
                        .crop = crop,
                        .progress = progress,
                        .precision = compute.precision,
                        .collective = CollectiveKind::kMpi,  // there is nothing for NCCL to sum
                        .choices = model.choices.get(),
                        .watch = watch};
  PLATEAU_TRY(ShareDevices(compute.device, collective, options));
  PLATEAU_TRY(Agree(collective, MakeEngines(model, dense, settings, compute.device, options)));
  for (Engine* engine : {model.crops.get(), model.dense.get()})
    if (engine != nullptr) PLATEAU_TRY(ShareWeights(collective, found, *engine));
  return model;
}

}  // namespace plateau
