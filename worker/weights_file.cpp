// Reads and writes weight files.
#include "worker/weights_file.h"

#include <unistd.h>

#include <filesystem>

#include "common/check.h"
#include "worker/model/torchvision_names.h"

namespace plateau {
namespace {

Result<TensorView> Find(const SafetensorsFile& file, const std::string& path, const std::string& name, NameStyle style) {
  const auto found = file.tensors().find(name);
  if (found != file.tensors().end()) return found->second;
  return Fail(ErrorCode::kNotFound, "{}: no tensor '{}'; {}", path, name,
              style == NameStyle::kCanonical ? "give --names torchvision if the file uses torchvision's names"
                                             : "the file does not use torchvision's names");
}

Status WriteAll(WritableFile& file, std::span<const NamedTensor> tensors, const std::map<std::string, std::string>& metadata) {
  PLATEAU_TRY(WriteSafetensors(file, tensors, metadata));
  PLATEAU_TRY(file.Sync());
  return file.Close();
}

}  // namespace

Result<NameStyle> ParseNameStyle(const std::string& text) {
  if (text == "canonical") return NameStyle::kCanonical;
  if (text == "torchvision") return NameStyle::kTorchvision;
  return Fail(ErrorCode::kInvalidInput, "--names {}: not canonical or torchvision", text);
}

std::string ParameterName(const Network& network, const std::string& canonical, NameStyle style) {
  if (style == NameStyle::kCanonical) return canonical;
  const auto name = TorchvisionName(network, canonical);
  PLATEAU_CHECK(name.has_value(), "{}", name.error().message);
  return *name;
}

Status WriteSafetensorsFile(FileSystem& files, const std::string& path, std::span<const NamedTensor> tensors,
                            const std::map<std::string, std::string>& metadata) {
  const std::string temporary = fmt::format("{}.tmp-{}", path, getpid());
  auto file = files.Create(temporary);
  if (!file) return Fail(file.error());
  if (auto written = WriteAll(**file, tensors, metadata); !written) {
    (void)files.Remove(temporary);  // the first error is the one to tell
    return written;
  }
  PLATEAU_TRY(files.Rename(temporary, path));
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return files.SyncDirectory(folder.empty() ? "." : folder);
}

Result<Network> NetworkOfWeights(const std::string& name, const SafetensorsFile& file, const std::string& path, NameStyle style,
                                 double dropout) {
  auto network = MakeNetwork(name, {.dropout = dropout});
  if (!network) return network;
  for (LayerDef& layer : network->layers) {
    if (layer.kind == LayerKind::kMaxPool) continue;
    const auto bias = Find(file, path, ParameterName(*network, layer.name + ".bias", style), style);
    if (!bias) return Fail(bias.error());
    const size_t values = bias->bytes.size() / sizeof(float);
    if (bias->type != TensorType::kF32 || bias->shape.size() != 1 || values == 0) {
      return Fail(ErrorCode::kInvalidInput, "{}: {} is not a float32 vector", path,
                  ParameterName(*network, layer.name + ".bias", style));
    }
    layer.out_channels = static_cast<int>(values);
  }
  network->classes = network->layers.back().out_channels;
  return network;
}

Status LoadWeights(const Network& network, const SafetensorsFile& file, NameStyle style, ParameterStore& store) {
  for (int p = 0; p < store.count(); ++p) {
    const ParameterInfo& info = store.info(p);
    const auto values = file.Floats(ParameterName(network, info.name, style), info.shape);
    if (!values) return Fail(values.error());
    store.FromCanonical(p, *values, store.weight(p));
  }
  store.WeightsChanged();
  return {};
}

TensorView FloatTensor(std::span<const float> values, std::vector<int64_t> shape) {
  return {TensorType::kF32, std::move(shape), {reinterpret_cast<const char*>(values.data()), values.size_bytes()}};
}

}  // namespace plateau
