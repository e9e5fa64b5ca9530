// Weights as safetensors files, under our names or torchvision's.
#pragma once

#include <functional>
#include <string>

#include "common/file.h"
#include "common/safetensors.h"
#include "worker/model/network.h"
#include "worker/nn/parameter.h"

namespace plateau {

enum class NameStyle { kCanonical, kTorchvision };
Result<NameStyle> ParseNameStyle(const std::string& text);  // "canonical", "torchvision"

// Whether the network has names of this style: kUnsupported when torchvision lacks it.
Status CheckNameStyle(const Network& network, NameStyle style);
// The tensor's name in a file of this style, which CheckNameStyle has let pass.
std::string ParameterName(const Network& network, const std::string& canonical, NameStyle style);

// What `fill` appends becomes `path`: written beside, synced, and renamed, so that a reader sees all of it or none. When fill fails or
// throws, nothing is left.
Status WriteBeside(FileSystem& files, const std::string& path, const std::function<Status(WritableFile&)>& fill);
// The same for tensors in memory.
Status WriteSafetensorsFile(FileSystem& files, const std::string& path, std::span<const NamedTensor> tensors,
                            const std::map<std::string, std::string>& metadata);

// The network whose shapes are those of the file: classes, input channels and channel counts come from the tensors, so that no width
// need be told. kNotFound names a missing tensor, the file, and a network that the file fits.
Result<Network> NetworkOfWeights(const std::string& name, const SafetensorsFile& file, NameStyle style, double dropout);
// Fills every tensor of `store`, from float32, float64 or half precision; kInvalidInput names the tensor whose shape differs, kNumeric
// the first value that is not finite.
Status LoadWeights(const Network& network, const SafetensorsFile& file, NameStyle style, ParameterStore& store);

TensorView FloatTensor(std::span<const float> values, std::vector<int64_t> shape);

}  // namespace plateau
