// Where each canonical value of a parameter lies in its native (blocked, perhaps padded) layout.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <dnnl.hpp>

namespace plateau {

// Blocked layouts are separable: offset = row[output channel] + inner[position inside one output channel].
class CanonicalMap {
 public:
  CanonicalMap() = default;
  // `native` has the canonical dimensions in canonical order. For a fully connected layer after a channel-blocked map,
  // `channel_block` is that block and `area` the map's height * width: the native input order is then C/block, H, W, block. 1
  // otherwise.
  CanonicalMap(const dnnl::memory::desc& native, int channel_block, int64_t area);
  int64_t native_count() const { return native_count_; }  // values, padding included
  void ToCanonical(std::span<const float> native, std::span<float> canonical, int threads) const;
  void FromCanonical(std::span<const float> canonical, std::span<float> native, int threads) const;  // padding becomes zero
  // The output channels from `first_row` on, as many as `canonical` holds.
  void RowsToCanonical(std::span<const float> native, int64_t first_row, std::span<float> canonical) const;

 private:
  std::vector<int64_t> row_, inner_;
  int64_t native_count_ = 0;
};

}  // namespace plateau
