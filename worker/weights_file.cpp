// Reads and writes weight files.
#include "worker/weights_file.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "common/check.h"
#include "worker/model/torchvision_names.h"

namespace plateau {
namespace {

// Shape of a tensor of `rank` sides.
Result<std::vector<int64_t>> ShapeOf(const SafetensorsFile& file, const std::string& name, size_t rank, const std::string& hint) {
  const auto found = file.tensors().find(name);
  if (found == file.tensors().end()) return Fail(ErrorCode::kNotFound, "{}: no tensor '{}'; {}", file.path(), name, hint);
  const std::vector<int64_t>& shape = found->second.shape;
  constexpr int64_t kMost = 1 << 24;
  if (shape.size() == rank && std::all_of(shape.begin(), shape.end(), [](int64_t n) { return n >= 1 && n <= kMost; })) return shape;
  return Fail(ErrorCode::kInvalidInput, "{}: tensor {} has shape [{}], not {} sides of at least 1; it belongs to another network",
              file.path(), name, fmt::join(shape, ","), rank);
}

// Whether every layer with weights has them in the file, and how many tensors of the file are theirs.
size_t TensorsOf(const Network& network, const SafetensorsFile& file, NameStyle style) {
  size_t tensors = 0;
  for (const LayerDef& layer : network.layers) {
    if (!HasParameters(layer)) continue;
    if (!file.tensors().contains(ParameterName(network, layer.name + ".weight", style))) return 0;
    for (const char* suffix : {".weight", ".bias", ".running_mean", ".running_var"})
      tensors += file.tensors().count(ParameterName(network, layer.name + suffix, style));
  }
  return tensors;
}

// What to do about a tensor that is missing: the network and style that the file fits best, when there is one.
std::string HintFor(const SafetensorsFile& file, NameStyle style) {
  std::string best;
  size_t most = 0;
  for (const NameStyle other : {style, style == NameStyle::kCanonical ? NameStyle::kTorchvision : NameStyle::kCanonical}) {
    for (const std::string& name : NetworkNames()) {
      const auto network = MakeNetwork(name, PaperOptions(name));
      if (!network || !CheckNameStyle(*network, other)) continue;
      const size_t tensors = TensorsOf(*network, file, other);
      if (tensors <= most) continue;
      most = tensors;
      best = fmt::format("the file looks like {}{}", name,
                         other == style ? "" : other == NameStyle::kTorchvision ? " with --names torchvision" : " with --names canonical");
    }
  }
  return best.empty() ? "the file holds no network that is known here" : best;
}

Status FillAndSync(WritableFile& file, const std::function<Status(WritableFile&)>& fill) {
  PLATEAU_TRY(fill(file));
  PLATEAU_TRY(file.Sync());
  return file.Close();
}

}  // namespace

Result<NameStyle> ParseNameStyle(const std::string& text) {
  if (text == "canonical") return NameStyle::kCanonical;
  if (text == "torchvision") return NameStyle::kTorchvision;
  return Fail(ErrorCode::kInvalidInput, "--names {}: not canonical or torchvision", text);
}

Status CheckNameStyle(const Network& network, NameStyle style) {
  if (style == NameStyle::kTorchvision) PLATEAU_TRY(TorchvisionModel(network.name));
  return {};
}

std::string ParameterName(const Network& network, const std::string& canonical, NameStyle style) {
  if (style == NameStyle::kCanonical) return canonical;
  const auto name = TorchvisionName(network, canonical);
  PLATEAU_CHECK(name.has_value(), "{}", name.error().message);
  return *name;
}

Status WriteBeside(FileSystem& files, const std::string& path, const std::function<Status(WritableFile&)>& fill) {
  const std::string temporary = fmt::format("{}.tmp-{}", path, getpid());
  auto file = files.Create(temporary);
  if (!file) return Fail(file.error());
  Status written;
  try {
    written = FillAndSync(**file, fill);
  } catch (...) {
    (void)files.Remove(temporary);
    throw;
  }
  if (!written) {
    (void)files.Remove(temporary);  // the first error is the one to tell
    return written;
  }
  PLATEAU_TRY(files.Rename(temporary, path));
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return files.SyncDirectory(folder.empty() ? "." : folder);
}

Status WriteSafetensorsFile(FileSystem& files, const std::string& path, std::span<const NamedTensor> tensors,
                            const std::map<std::string, std::string>& metadata) {
  return WriteBeside(files, path, [&](WritableFile& file) { return WriteSafetensors(file, tensors, metadata); });
}

Result<Network> NetworkOfWeights(const std::string& name, const SafetensorsFile& file, NameStyle style, double dropout) {
  auto network = MakeNetwork(name, {.dropout = dropout});
  if (!network) return network;
  PLATEAU_TRY(CheckNameStyle(*network, style));
  for (LayerDef& layer : network->layers) {
    if (!HasParameters(layer) || layer.kind == LayerKind::kBatchNorm) continue;
    const bool conv = layer.kind == LayerKind::kConvolution;
    const std::string weight = ParameterName(*network, layer.name + ".weight", style);
    const std::string hint = file.tensors().contains(weight) ? "" : HintFor(file, style);
    PLATEAU_ASSIGN(const std::vector<int64_t> shape, ShapeOf(file, weight, conv ? 4 : 2, hint));
    layer.out_channels = static_cast<int>(shape[0]);
    if (conv && layer.inputs[0] < 0) network->channels = static_cast<int>(shape[1]);
  }
  network->classes = network->layers.back().out_channels;
  return network;
}

Status LoadWeights(const Network& network, const SafetensorsFile& file, NameStyle style, ParameterStore& store) {
  for (int p = 0; p < store.count(); ++p) {
    const ParameterInfo& info = store.info(p);
    PLATEAU_ASSIGN(const auto values, file.ConvertedFloats(ParameterName(network, info.name, style), info.shape));
    store.FromCanonical(p, values, store.weight(p));
  }
  store.WeightsChanged();
  return {};
}

TensorView FloatTensor(std::span<const float> values, std::vector<int64_t> shape) {
  return {TensorType::kF32, std::move(shape), {reinterpret_cast<const char*>(values.data()), values.size_bytes()}};
}

}  // namespace plateau
