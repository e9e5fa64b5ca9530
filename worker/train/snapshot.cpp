// Copying parameters fast, and writing them in canonical form later.
#include "worker/train/snapshot.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "common/safetensors.h"

namespace plateau {
namespace {

constexpr size_t kCopyFloats = size_t{4} << 20;     // of one piece that a thread copies
constexpr size_t kConvertFloats = size_t{1} << 20;  // of one piece that is converted and written: it stays in the cache
constexpr size_t kAlignFloats = 16;

bool AllFinite(std::span<const float> values) {
  constexpr uint32_t kExponent = 0x7F800000;
  int bad = 0;
#pragma omp simd reduction(| : bad)
  for (size_t i = 0; i < values.size(); ++i) bad |= static_cast<int>((std::bit_cast<uint32_t>(values[i]) & kExponent) == kExponent);
  return bad == 0;
}

}  // namespace

ParameterSnapshot::ParameterSnapshot(ParameterStore& parameters, int threads) : parameters_(parameters), threads_(threads) {
  size_t floats = 0;
  Plan(false, floats);
  Plan(true, floats);
  buffer_ = HugeBuffer(floats * sizeof(float));
  buffer_.Touch(threads_);
}

void ParameterSnapshot::Plan(bool momentum, size_t& floats) {
  std::vector<size_t>& at = momentum ? momentum_at_ : weight_at_;
  for (int p = 0; p < parameters_.count(); ++p) {
    const size_t count = parameters_.weight(p).size();
    at.push_back(floats);
    for (size_t from = 0; from < count; from += kCopyFloats)
      pieces_.push_back({p, momentum, from, floats + from, std::min(kCopyFloats, count - from)});
    floats += (count + kAlignFloats - 1) / kAlignFloats * kAlignFloats;
  }
}

void ParameterSnapshot::Take() {
  parameters_.Fetch();
  const auto pieces = static_cast<int64_t>(pieces_.size());
#pragma omp parallel for num_threads(threads_) schedule(dynamic) if (threads_ > 1)
  for (int64_t i = 0; i < pieces; ++i) {
    const Piece& piece = pieces_[static_cast<size_t>(i)];
    const std::span<const float> values =
        piece.momentum ? parameters_.momentum(piece.parameter) : parameters_.weight(piece.parameter);
    std::memcpy(buffer_.floats() + piece.to, values.data() + piece.from, piece.count * sizeof(float));
  }
}

std::span<const float> ParameterSnapshot::Native(int parameter, Values values) const {
  const auto p = static_cast<size_t>(parameter);
  const size_t at = values == Values::kWeights ? weight_at_[p] : momentum_at_[p];
  return {buffer_.floats() + at, parameters_.weight(parameter).size()};
}

Status ParameterSnapshot::Write(WritableFile& file, Values values, const std::map<std::string, std::string>& metadata) const {
  std::vector<TensorLayout> layouts;
  for (int p = 0; p < parameters_.count(); ++p)
    layouts.push_back({parameters_.info(p).name, TensorType::kF32, parameters_.info(p).shape});
  PLATEAU_TRY(file.Append(SafetensorsHeader(layouts, metadata)));
  std::vector<float> canonical;
  for (int p = 0; p < parameters_.count(); ++p) {
    const ParameterInfo& info = parameters_.info(p);
    const int64_t rows = info.shape[0], row = info.CanonicalCount() / rows;
    const int64_t rows_at_once = std::max<int64_t>(1, static_cast<int64_t>(kConvertFloats) / row);
    for (int64_t begin = 0; begin < rows; begin += rows_at_once) {
      canonical.resize(static_cast<size_t>(std::min(rows_at_once, rows - begin) * row));
      parameters_.RowsToCanonical(p, Native(p, values), begin, canonical);
      if (!AllFinite(canonical))
        return Fail(ErrorCode::kNumeric, "{}{} holds a NaN or infinity", values == Values::kMomenta ? "the momentum of " : "",
                    info.name);
      PLATEAU_TRY(file.Append({reinterpret_cast<const char*>(canonical.data()), canonical.size() * sizeof(float)}));
    }
  }
  return {};
}

}  // namespace plateau
