// The safetensors file format: 8-byte little-endian header length, JSON header, tensor bytes (huggingface.co/docs/safetensors).
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "common/file.h"

namespace plateau {

enum class TensorType { kF32, kF64, kF16, kBF16, kI64, kI32, kU8, kBool };

struct TensorView {
  TensorType type = TensorType::kF32;
  std::vector<int64_t> shape;   // row-major; empty is a scalar
  std::string_view bytes;       // little endian; borrowed
};

// Order-preserving list of what to write.
struct NamedTensor {
  std::string name;
  TensorView tensor;
};

struct TensorLayout {
  std::string name;
  TensorType type = TensorType::kF32;
  std::vector<int64_t> shape;
};

// Everything before the tensors' bytes, which follow without gaps in this order. Metadata values are strings.
std::string SafetensorsHeader(std::span<const TensorLayout> tensors, const std::map<std::string, std::string>& metadata);

// Streams header and tensors into an open file, so that no second copy of the weights is made. Metadata values are strings.
Status WriteSafetensors(WritableFile& file, std::span<const NamedTensor> tensors, const std::map<std::string, std::string>& metadata);

// A parsed file; owns its bytes, views stay valid as long as it lives. Errors name path, tensor and offset.
class SafetensorsFile {
 public:
  static Result<SafetensorsFile> Load(FileSystem& files, const std::string& path);
  // Refuses tensors that lie outside the file, overlap or leave bytes unused: kCorrupt names them and their offsets.
  static Result<SafetensorsFile> Parse(std::string bytes, const std::string& path);
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // kNotFound names the nearest tensor; kInvalidInput when type or shape differ.
  Result<std::span<const float>> Floats(const std::string& name, std::span<const int64_t> shape) const;
  // The same as a copy in float32, from F32, F64, F16 or BF16, wherever the tensor lies in the file. kNumeric names the first value
  // that is NaN or infinite (a float64 beyond float32's range is).
  Result<std::vector<float>> ConvertedFloats(const std::string& name, std::span<const int64_t> shape) const;
  const std::string& path() const { return path_; }

 private:
  Result<const TensorView*> Find(const std::string& name, std::span<const int64_t> shape) const;

  std::vector<char> bytes_;   // a vector, so that moving the object keeps the views valid
  std::string path_;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

const char* TensorTypeName(TensorType type);
size_t TensorTypeBytes(TensorType type);

}  // namespace plateau
