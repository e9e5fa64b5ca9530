// Writes and reads safetensors files.
#include "common/safetensors.h"

#include <cstring>

#include <nlohmann/json.hpp>

#include "common/check.h"
#include "common/text.h"

namespace plateau {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kPieceBytes = 8 << 20;

const std::pair<TensorType, const char*> kTypes[] = {{TensorType::kF32, "F32"},
                                                     {TensorType::kF64, "F64"},
                                                     {TensorType::kI64, "I64"},
                                                     {TensorType::kI32, "I32"},
                                                     {TensorType::kU8, "U8"}};

uint64_t ElementCount(std::span<const int64_t> shape) {
  uint64_t count = 1;
  for (const int64_t side : shape) count *= static_cast<uint64_t>(side);
  return count;
}

std::string ShapeText(std::span<const int64_t> shape) { return fmt::format("[{}]", fmt::join(shape, ",")); }

}  // namespace

const char* TensorTypeName(TensorType type) {
  for (const auto& [known, name] : kTypes)
    if (known == type) return name;
  return "?";
}

size_t TensorTypeBytes(TensorType type) {
  switch (type) {
    case TensorType::kF32:
    case TensorType::kI32: return 4;
    case TensorType::kF64:
    case TensorType::kI64: return 8;
    case TensorType::kU8: return 1;
  }
  return 0;
}

std::string SafetensorsHeader(std::span<const TensorLayout> tensors, const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const TensorLayout& tensor : tensors) {
    const uint64_t bytes = ElementCount(tensor.shape) * TensorTypeBytes(tensor.type);
    header[tensor.name] = {
        {"dtype", TensorTypeName(tensor.type)}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // tensors begin on a multiple of 8
  uint64_t length = text.size();
  std::string front(8, '\0');
  for (char& byte : front) {
    byte = static_cast<char>(length & 0xFF);
    length >>= 8;
  }
  return front + text;
}

Status WriteSafetensors(WritableFile& file, std::span<const NamedTensor> tensors, const std::map<std::string, std::string>& metadata) {
  std::vector<TensorLayout> layouts;
  for (const auto& [name, tensor] : tensors) {
    const uint64_t bytes = ElementCount(tensor.shape) * TensorTypeBytes(tensor.type);
    PLATEAU_CHECK(bytes == tensor.bytes.size(), "tensor {} has {} bytes, its shape wants {}", name, tensor.bytes.size(), bytes);
    layouts.push_back({name, tensor.type, tensor.shape});
  }
  PLATEAU_TRY(file.Append(SafetensorsHeader(layouts, metadata)));
  for (const NamedTensor& tensor : tensors)
    for (size_t at = 0; at < tensor.tensor.bytes.size(); at += kPieceBytes)
      PLATEAU_TRY(file.Append(tensor.tensor.bytes.substr(at, kPieceBytes)));
  return {};
}

Result<SafetensorsFile> SafetensorsFile::Load(FileSystem& files, const std::string& path) {
  PLATEAU_ASSIGN(std::string bytes, files.Read(path));
  return Parse(std::move(bytes), path);
}

Result<SafetensorsFile> SafetensorsFile::Parse(std::string bytes, const std::string& path) {
  const auto corrupt = [&](const std::string& what) {
    return Fail(ErrorCode::kCorrupt, "{}: not a valid safetensors file: {}; use another copy of the file", path, what);
  };
  if (bytes.size() < 8) return corrupt(fmt::format("{} bytes, the header length alone takes 8", bytes.size()));
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<uint8_t>(bytes[static_cast<size_t>(i)]);
  if (length > kMaxHeaderBytes || length > bytes.size() - 8)
    return corrupt(fmt::format("the header length at offset 0 is {}, the file has {} bytes", length, bytes.size()));
  SafetensorsFile file;
  file.path_ = path;
  file.bytes_.assign(bytes.begin(), bytes.end());
  const auto header = nlohmann::json::parse(file.bytes_.data() + 8, file.bytes_.data() + 8 + length, nullptr, false);
  if (!header.is_object()) return corrupt("the header at offset 8 is not a JSON object");
  const uint64_t body = file.bytes_.size() - 8 - length;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      for (const auto& [key, value] : entry.items())
        if (value.is_string()) file.metadata_[key] = value.get<std::string>();
      continue;
    }
    try {
      TensorView view;
      const std::string type = entry.at("dtype");
      bool known = false;
      for (const auto& [candidate, text] : kTypes)
        if (type == text) view.type = candidate, known = true;
      if (!known) return Fail(ErrorCode::kUnsupported, "{}: tensor {} has dtype {}; known are F32, F64, I64, I32, U8", path, name, type);
      view.shape = entry.at("shape").get<std::vector<int64_t>>();
      const uint64_t begin = entry.at("data_offsets").at(0), end = entry.at("data_offsets").at(1);
      for (const int64_t side : view.shape)
        if (side < 0) return corrupt(fmt::format("tensor {} has shape {}", name, ShapeText(view.shape)));
      if (begin > end || end > body || end - begin != ElementCount(view.shape) * TensorTypeBytes(view.type))
        return corrupt(fmt::format("tensor {} of shape {} claims bytes {} to {} of {}", name, ShapeText(view.shape), begin, end, body));
      view.bytes = std::string_view(file.bytes_.data() + 8 + length + begin, end - begin);
      file.tensors_.emplace(name, std::move(view));
    } catch (const nlohmann::json::exception& error) {
      return corrupt(fmt::format("tensor {}: {}", name, error.what()));
    }
  }
  return file;
}

Result<std::span<const float>> SafetensorsFile::Floats(const std::string& name, std::span<const int64_t> shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    std::vector<std::string> names;
    for (const auto& [known, view] : tensors_) names.push_back(known);
    const std::string nearest = NearestName(name, names);
    return Fail(ErrorCode::kNotFound, "{}: tensor {} is missing{}", path_, name, nearest.empty() ? "" : " (nearest: " + nearest + ")");
  }
  const TensorView& view = found->second;
  if (view.type != TensorType::kF32 || !std::equal(view.shape.begin(), view.shape.end(), shape.begin(), shape.end()))
    return Fail(ErrorCode::kInvalidInput, "{}: tensor {} is {} {}, expected F32 {}; it belongs to another network, width or class count",
                path_, name, TensorTypeName(view.type), ShapeText(view.shape), ShapeText(shape));
  PLATEAU_CHECK(reinterpret_cast<uintptr_t>(view.bytes.data()) % alignof(float) == 0, "tensor {} is not aligned", name);
  return std::span<const float>(reinterpret_cast<const float*>(view.bytes.data()), view.bytes.size() / sizeof(float));
}

}  // namespace plateau
