// Writes and reads safetensors files.
#include "common/safetensors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include <nlohmann/json.hpp>

#include "common/check.h"
#include "common/text.h"

namespace plateau {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kPieceBytes = 8 << 20;

const std::pair<TensorType, const char*> kTypes[] = {{TensorType::kF32, "F32"},
                                                     {TensorType::kF64, "F64"},
                                                     {TensorType::kF16, "F16"},
                                                     {TensorType::kBF16, "BF16"},
                                                     {TensorType::kI64, "I64"},
                                                     {TensorType::kI32, "I32"},
                                                     {TensorType::kU8, "U8"},
                                                     {TensorType::kBool, "BOOL"}};

uint64_t ElementCount(std::span<const int64_t> shape) {
  uint64_t count = 1;
  for (const int64_t side : shape) count *= static_cast<uint64_t>(side);
  return count;
}

// Bytes that the shape and type say, or nothing when no file can be that large.
std::optional<uint64_t> ClaimedBytes(std::span<const int64_t> shape, TensorType type) {
  uint64_t bytes = TensorTypeBytes(type);
  for (const int64_t side : shape)
    if (side < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(side), &bytes)) return std::nullopt;
  return bytes;
}

float FromHalf(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000U} << 16, exponent = half >> 10 & 0x1FU, fraction = half & 0x3FFU;
  if (exponent == 0) {
    const float value = std::ldexp(static_cast<float>(fraction), -24);
    return sign != 0 ? -value : value;
  }
  return std::bit_cast<float>(sign | (exponent == 31 ? 0xFFU : exponent + 112) << 23 | fraction << 13);
}

template <typename Stored, typename Convert>
void ConvertAll(std::string_view bytes, std::vector<float>& out, const Convert& convert) {
  for (size_t i = 0; i < out.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    out[i] = convert(stored);
  }
}

// A header's list of whole numbers of at least 0; a fraction, a sign or 1e300 is an error.
Result<std::vector<int64_t>> WholeNumbers(const nlohmann::json& entry, const char* field) {
  const nlohmann::json& list = entry.at(field);
  const bool whole = list.is_array() && std::all_of(list.begin(), list.end(), [](const nlohmann::json& number) {
    return number.is_number_unsigned() && number.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  });
  if (!whole) return Fail(ErrorCode::kCorrupt, "the impossible {} {}, not a list of whole numbers of at least 0", field, list.dump());
  return list.get<std::vector<int64_t>>();
}

std::string ShapeText(std::span<const int64_t> shape) { return fmt::format("[{}]", fmt::join(shape, ",")); }

// As the format asks: the tensors' bytes follow each other without holes or overlaps and fill the file.
Status CheckTiling(const std::map<std::string, TensorView>& tensors, const char* body, uint64_t body_bytes, const std::string& path) {
  std::vector<std::pair<uint64_t, const std::map<std::string, TensorView>::value_type*>> order;
  for (const auto& entry : tensors) order.emplace_back(static_cast<uint64_t>(entry.second.bytes.data() - body), &entry);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first, a.second->second.bytes.size()) < std::pair(b.first, b.second->second.bytes.size());
  });
  uint64_t at = 0;
  for (const auto& [begin, entry] : order) {
    if (begin != at)
      return Fail(ErrorCode::kCorrupt, "{}: not a valid safetensors file: tensor {} begins at byte {} behind the header, the one before "
                  "it ends at {}; use another copy of the file", path, entry->first, begin, at);
    at += entry->second.bytes.size();
  }
  if (at == body_bytes) return {};
  return Fail(ErrorCode::kCorrupt, "{}: not a valid safetensors file: its tensors end at byte {} behind the header, the file at {}; use "
              "another copy of the file", path, at, body_bytes);
}

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
    case TensorType::kF16:
    case TensorType::kBF16: return 2;
    case TensorType::kU8:
    case TensorType::kBool: return 1;
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
      if (!known)
        return Fail(ErrorCode::kUnsupported, "{}: tensor {} has dtype {}; known are F32, F64, F16, BF16, I64, I32, U8 and BOOL", path,
                    name, type);
      const auto shape = WholeNumbers(entry, "shape"), offsets = WholeNumbers(entry, "data_offsets");
      if (!shape || !offsets) return corrupt(fmt::format("tensor {} has {}", name, (!shape ? shape : offsets).error().message));
      if (offsets->size() != 2) return corrupt(fmt::format("tensor {} has {} data_offsets, not a begin and an end", name, offsets->size()));
      view.shape = *shape;
      const auto begin = static_cast<uint64_t>(offsets->front()), end = static_cast<uint64_t>(offsets->back());
      const auto claimed = ClaimedBytes(view.shape, view.type);
      if (!claimed) return corrupt(fmt::format("tensor {} has the impossible shape {}", name, ShapeText(view.shape)));
      if (begin > end || end > body || end - begin != *claimed)
        return corrupt(fmt::format("tensor {} of {} {} needs {} bytes and claims bytes {} to {} of the {} behind the header", name, type,
                                   ShapeText(view.shape), *claimed, begin, end, body));
      view.bytes = std::string_view(file.bytes_.data() + 8 + length + begin, end - begin);
      file.tensors_.emplace(name, std::move(view));
    } catch (const nlohmann::json::exception& error) {
      return corrupt(fmt::format("tensor {}: {}", name, error.what()));
    }
  }
  PLATEAU_TRY(CheckTiling(file.tensors_, file.bytes_.data() + 8 + length, body, path));
  return file;
}

Result<const TensorView*> SafetensorsFile::Find(const std::string& name, std::span<const int64_t> shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    std::vector<std::string> names;
    for (const auto& [known, view] : tensors_) names.push_back(known);
    const std::string nearest = NearestName(name, names);
    return Fail(ErrorCode::kNotFound, "{}: tensor {} is missing{}", path_, name, nearest.empty() ? "" : " (nearest: " + nearest + ")");
  }
  const TensorView& view = found->second;
  if (!std::equal(view.shape.begin(), view.shape.end(), shape.begin(), shape.end()))
    return Fail(ErrorCode::kInvalidInput, "{}: tensor {} is {} {}, expected {}; it belongs to another network, width, crop or class count",
                path_, name, TensorTypeName(view.type), ShapeText(view.shape), ShapeText(shape));
  return &view;
}

Result<std::span<const float>> SafetensorsFile::Floats(const std::string& name, std::span<const int64_t> shape) const {
  PLATEAU_ASSIGN(const TensorView* view, Find(name, shape));
  if (view->type != TensorType::kF32)
    return Fail(ErrorCode::kInvalidInput, "{}: tensor {} is {}, expected F32; convert the file with plateau import", path_, name,
                TensorTypeName(view->type));
  if (reinterpret_cast<uintptr_t>(view->bytes.data()) % alignof(float) != 0)
    return Fail(ErrorCode::kInvalidInput, "{}: tensor {} begins at an odd place of the file; convert the file with plateau import",
                path_, name);
  return std::span<const float>(reinterpret_cast<const float*>(view->bytes.data()), view->bytes.size() / sizeof(float));
}

Result<std::vector<float>> SafetensorsFile::ConvertedFloats(const std::string& name, std::span<const int64_t> shape) const {
  PLATEAU_ASSIGN(const TensorView* view, Find(name, shape));
  std::vector<float> values(view->bytes.size() / TensorTypeBytes(view->type));
  switch (view->type) {
    case TensorType::kF32: ConvertAll<float>(view->bytes, values, [](float v) { return v; }); break;
    case TensorType::kF64: ConvertAll<double>(view->bytes, values, [](double v) { return static_cast<float>(v); }); break;
    case TensorType::kF16: ConvertAll<uint16_t>(view->bytes, values, FromHalf); break;
    case TensorType::kBF16:
      ConvertAll<uint16_t>(view->bytes, values, [](uint16_t v) { return std::bit_cast<float>(uint32_t{v} << 16); });
      break;
    default:
      return Fail(ErrorCode::kInvalidInput, "{}: tensor {} is {}; weights are F32, F64, F16 or BF16", path_, name,
                  TensorTypeName(view->type));
  }
  const auto bad = std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
  if (bad != values.end())
    return Fail(ErrorCode::kNumeric, "{}: tensor {} holds {} at position {}; use weights of a run that did not diverge", path_, name,
                *bad, bad - values.begin());
  return values;
}

}  // namespace plateau
