// Weights as safetensors files, under our names or torchvision's.
#pragma once

#include <string>

#include "common/file.h"
#include "common/safetensors.h"
#include "worker/model/network.h"
#include "worker/nn/parameter.h"

namespace plateau {

enum class NameStyle { kCanonical, kTorchvision };
Result<NameStyle> ParseNameStyle(const std::string& text);  // "canonical", "torchvision"

// The tensor's name in a file of this style.
std::string ParameterName(const Network& network, const std::string& canonical, NameStyle style);

// Writes `path` beside, synced, and renamed: a reader sees all of it or none.
Status WriteSafetensorsFile(FileSystem& files, const std::string& path, std::span<const NamedTensor> tensors,
                            const std::map<std::string, std::string>& metadata);

// The network whose shapes are those of the file: classes and channel counts come from the tensors, so that no width need be told.
// kNotFound names a missing tensor and the file.
Result<Network> NetworkOfWeights(const std::string& name, const SafetensorsFile& file, const std::string& path, NameStyle style,
                                 double dropout);
// Fills every weight of `store`; kInvalidInput names the tensor whose shape differs.
Status LoadWeights(const Network& network, const SafetensorsFile& file, NameStyle style, ParameterStore& store);

TensorView FloatTensor(std::span<const float> values, std::vector<int64_t> shape);

}  // namespace plateau
