// Takes a trained model's weights into a new network.
#include "worker/train/warm_start.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "common/checksum.h"
#include "common/text.h"

namespace plateau {
namespace {

constexpr float kSameMean = 1e-3F;  // of 255: means nearer than this are one

const char* const kFirstFourAndFc[] = {"conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8"};

std::vector<std::string> LayersWithTensors(const Network& network) {
  std::vector<std::string> names;
  for (const LayerDef& layer : network.layers)
    if (HasParameters(layer)) names.push_back(layer.name);
  return names;
}

// The store's tensors of one layer.
std::vector<int> TensorsOf(const Network& network, const std::string& layer, const ParameterStore& store) {
  std::vector<int> tensors;
  for (int p = 0; p < store.count(); ++p)
    if (network.layers[static_cast<size_t>(store.info(p).layer)].name == layer) tensors.push_back(p);
  return tensors;
}

// Why a layer cannot be taken; empty when it can.
std::string Mismatch(const TrainedModel& source, const ParameterStore& store, const std::vector<int>& tensors) {
  for (const int p : tensors) {
    const ParameterInfo& info = store.info(p);
    const auto found = source.weights.tensors().find(info.name);
    if (found == source.weights.tensors().end()) return fmt::format("{} is not in {}", info.name, source.network.name);
    if (found->second.shape != info.shape)
      return fmt::format("{} is [{}] there and [{}] here", info.name, fmt::join(found->second.shape, ","), fmt::join(info.shape, ","));
  }
  return "";
}

bool ReadsInput(const Network& network, const std::string& layer) {
  return std::any_of(network.layers.begin(), network.layers.end(),
                     [&](const LayerDef& l) { return l.name == layer && l.inputs[0] < 0; });
}

// Why weights that read the input cannot be taken: no bias makes up for another mean where the padding is zero. Empty: they can.
std::string MeanMismatch(const TrainedModel& source, const Preprocessing& now) {
  const Preprocessing& then = source.identity.preprocessing;
  for (size_t c = 0; c < static_cast<size_t>(std::min(now.channels, 3)); ++c)
    if (std::abs(now.mean[c] - then.mean[c]) > kSameMean)
      return fmt::format("{} subtracted the mean {:.3f} from channel {}, this run subtracts {:.3f}", source.folder, then.mean[c], c,
                         now.mean[c]);
  return "";
}

// Factors by input channel that make the source's weights right for this run's pixels; nothing when they are right as they are.
std::vector<float> FoldFactors(const TrainedModel& source, const Preprocessing& now) {
  const Preprocessing& then = source.identity.preprocessing;
  std::vector<float> factors;
  bool same = true;
  for (size_t c = 0; c < static_cast<size_t>(std::min(now.channels, 3)); ++c) {
    factors.push_back(now.standard_deviation[c] / then.standard_deviation[c]);
    same = same && factors.back() == 1;
  }
  if (same) factors.clear();
  return factors;
}

// w [out, in, height, width]: every input channel by its factor.
void Fold(std::span<float> weight, const std::vector<int64_t>& shape, const std::vector<float>& factors) {
  const int64_t area = shape[2] * shape[3];
  for (size_t i = 0; i < weight.size(); ++i)
    weight[i] *= factors[static_cast<size_t>(static_cast<int64_t>(i) / area % shape[1]) % factors.size()];
}

// Copies one layer's tensors; returns whether its weights were folded.
Result<bool> TakeLayer(const TrainedModel& source, const Network& network, const Preprocessing& now, const std::string& layer,
                       const std::vector<int>& tensors, ParameterStore& store, WarmStart& start) {
  std::vector<float> factors;
  if (ReadsInput(network, layer)) factors = FoldFactors(source, now);
  for (const int p : tensors) {
    const ParameterInfo& info = store.info(p);
    PLATEAU_ASSIGN(const auto stored, source.weights.Floats(info.name, info.shape));
    std::vector<float> values(stored.begin(), stored.end());
    if (!factors.empty() && info.role == ParameterRole::kWeight && info.shape.size() == 4) Fold(values, info.shape, factors);
    store.FromCanonical(p, values, store.weight(p));
    store.ToCanonical(p, store.weight(p), values);  // what the run really has
    start.taken.emplace_back(info.name, ChecksumText(Checksum({reinterpret_cast<const char*>(values.data()), values.size() * 4})));
  }
  return !factors.empty();
}

}  // namespace

Result<std::vector<std::string>> WarmLayers(const Network& network, const std::vector<std::string>& wanted) {
  const std::vector<std::string> known = LayersWithTensors(network);
  if (wanted == std::vector<std::string>{"all"}) return known;
  std::vector<std::string> names = wanted;
  if (wanted == std::vector<std::string>{"vgg-first4-fc3"}) names.assign(std::begin(kFirstFourAndFc), std::end(kFirstFourAndFc));
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const std::string nearest = NearestName(name, known);
    return Fail(ErrorCode::kInvalidInput, "model.init_from.layers: {} has no layer {} with weights{}; its layers are {}", network.name,
                name, nearest.empty() ? "" : ", did you mean " + nearest + "?", JoinNames(known));
  }
  return names;
}

Result<WarmStart> TakeWeights(const TrainedModel& source, const JobSpec::InitFrom& from, const Network& network,
                              const Preprocessing& preprocessing, ParameterStore& store) {
  PLATEAU_ASSIGN(const auto layers, WarmLayers(network, from.layers));
  WarmStart start{.checkpoint = source.folder};
  for (const std::string& layer : layers) {
    const std::vector<int> tensors = TensorsOf(network, layer, store);
    if (const std::string why = Mismatch(source, store, tensors); !why.empty()) {
      if (from.on_mismatch != "skip")
        return Fail(ErrorCode::kInvalidInput,
                    "model.init_from: layer {} cannot be taken from {}: {}; give the same width, crop and classes, or on_mismatch: skip to "
                    "leave such layers at fresh weights",
                    layer, source.folder, why);
      start.skipped.push_back(fmt::format("{}: {}", layer, why));
      continue;
    }
    if (const std::string why = ReadsInput(network, layer) ? MeanMismatch(source, preprocessing) : ""; !why.empty()) {
      if (from.on_mismatch != "skip")
        return Fail(ErrorCode::kInvalidInput,
                    "model.init_from: {}: a difference in the mean cannot be folded into {}, whose padding is zero; train on the same data "
                    "set, or name only layers behind {} in model.init_from.layers, or give on_mismatch: skip to leave {} at fresh weights",
                    why, layer, layer, layer);
      start.skipped.push_back(fmt::format("{}: {}", layer, why));
      continue;
    }
    PLATEAU_ASSIGN(const bool folded, TakeLayer(source, network, preprocessing, layer, tensors, store, start));
    start.folded = start.folded || folded;
  }
  if (start.taken.empty())
    return Fail(ErrorCode::kInvalidInput, "model.init_from: no layer of {} fits {}: {}; choose another model, or leave init_from out",
                source.folder, network.name, fmt::join(start.skipped, "; "));
  store.WeightsChanged();
  return start;
}

std::string WarmStartJson(const WarmStart& start) {
  nlohmann::ordered_json tensors = nlohmann::ordered_json::object();
  for (const auto& [name, checksum] : start.taken) tensors[name] = checksum;
  return nlohmann::ordered_json{{"version", 1},
                                {"checkpoint", start.checkpoint},
                                {"folded", start.folded},
                                {"tensors", tensors},
                                {"skipped", start.skipped}}
             .dump(2) +
         "\n";
}

}  // namespace plateau
