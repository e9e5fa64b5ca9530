// Offset tables of a oneDNN blocked layout.
#include "worker/backend/cpu/canonical_map.h"

#include <algorithm>

#include "common/check.h"

namespace plateau {
namespace {

// Offset that index i of dimension `dimension` adds, for every i.
std::vector<int64_t> DimensionOffsets(const dnnl::memory::desc& desc, int dimension) {
  const auto& data = desc.data;
  const auto& blocking = data.format_desc.blocking;
  std::vector<int64_t> offsets(static_cast<size_t>(data.dims[dimension]));
  for (int64_t index = 0; index < data.dims[dimension]; ++index) {
    int64_t rest = index, stride = 1, offset = 0;
    for (int block = blocking.inner_nblks - 1; block >= 0; --block) {
      const int64_t size = blocking.inner_blks[block];
      if (blocking.inner_idxs[block] == dimension) {
        offset += rest % size * stride;
        rest /= size;
      }
      stride *= size;
    }
    offsets[static_cast<size_t>(index)] = offset + rest * blocking.strides[dimension];
  }
  return offsets;
}

}  // namespace

CanonicalMap::CanonicalMap(const dnnl::memory::desc& native, int channel_block, int64_t area) {
  PLATEAU_CHECK(native.data.format_kind == dnnl_blocked, "format kind {}", static_cast<int>(native.data.format_kind));
  native_count_ = static_cast<int64_t>(native.get_size() / sizeof(float));
  row_ = DimensionOffsets(native, 0);
  inner_ = {0};
  for (int dimension = 1; dimension < native.data.ndims; ++dimension) {
    const auto offsets = DimensionOffsets(native, dimension);
    std::vector<int64_t> combined;
    combined.reserve(inner_.size() * offsets.size());
    for (const int64_t outer : inner_) {
      for (const int64_t offset : offsets) combined.push_back(outer + offset);
    }
    inner_ = std::move(combined);
  }
  if (channel_block == 1) return;
  std::vector<int64_t> canonical(inner_.size());
  const auto count = static_cast<int64_t>(inner_.size());
  PLATEAU_CHECK(count % (area * channel_block) == 0, "{} inputs, area {}, block {}", count, area, channel_block);
  for (int64_t position = 0; position < count; ++position) {
    const int64_t channel = position / area, place = position % area;
    const int64_t flat = (channel / channel_block * area + place) * channel_block + channel % channel_block;
    canonical[static_cast<size_t>(position)] = inner_[static_cast<size_t>(flat)];
  }
  inner_ = std::move(canonical);
}

void CanonicalMap::ToCanonical(std::span<const float> native, std::span<float> canonical, int threads) const {
  PLATEAU_CHECK(static_cast<int64_t>(native.size()) == native_count_ && canonical.size() == row_.size() * inner_.size(),
                "{} native, {} canonical values", native.size(), canonical.size());
  const auto rows = static_cast<int64_t>(row_.size()), count = static_cast<int64_t>(inner_.size());
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t row = 0; row < rows; ++row)
    RowsToCanonical(native, row, canonical.subspan(static_cast<size_t>(row * count), static_cast<size_t>(count)));
}

void CanonicalMap::RowsToCanonical(std::span<const float> native, int64_t first_row, std::span<float> canonical) const {
  const auto count = static_cast<int64_t>(inner_.size()), rows = static_cast<int64_t>(canonical.size()) / count;
  PLATEAU_CHECK(static_cast<int64_t>(native.size()) == native_count_ && rows * count == static_cast<int64_t>(canonical.size()) &&
                    first_row + rows <= static_cast<int64_t>(row_.size()),
                "{} native values, {} canonical from row {} on", native.size(), canonical.size(), first_row);
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = native.data() + row_[static_cast<size_t>(first_row + row)];
    float* to = canonical.data() + row * count;
    for (int64_t i = 0; i < count; ++i) to[i] = from[inner_[static_cast<size_t>(i)]];
  }
}

void CanonicalMap::FromCanonical(std::span<const float> canonical, std::span<float> native, int threads) const {
  PLATEAU_CHECK(static_cast<int64_t>(native.size()) == native_count_ && canonical.size() == row_.size() * inner_.size(),
                "{} native, {} canonical values", native.size(), canonical.size());
  if (native.size() != canonical.size()) std::fill(native.begin(), native.end(), 0.0F);
  const auto rows = static_cast<int64_t>(row_.size()), count = static_cast<int64_t>(inner_.size());
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = canonical.data() + row * count;
    float* to = native.data() + row_[static_cast<size_t>(row)];
    for (int64_t i = 0; i < count; ++i) to[inner_[static_cast<size_t>(i)]] = from[i];
  }
}

}  // namespace plateau
