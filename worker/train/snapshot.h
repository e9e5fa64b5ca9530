// Weights and momentum as they stood between two steps, so that training goes on while they are written.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/file.h"
#include "worker/backend/cpu/huge_buffer.h"
#include "worker/nn/parameter.h"

namespace plateau {

// Holds one copy, in the native layout, in memory that is allocated and touched once. Not copied, not moved.
class ParameterSnapshot {
 public:
  enum class Values { kWeights, kMomenta };

  // `parameters` is borrowed. `threads`: the team that touches and copies.
  ParameterSnapshot(ParameterStore& parameters, int threads);
  ParameterSnapshot(const ParameterSnapshot&) = delete;
  ParameterSnapshot& operator=(const ParameterSnapshot&) = delete;

  // Fetches and copies all weights and momenta. Training thread, between two updates, while nobody reads the snapshot.
  void Take();

  // Streams the safetensors form of one set: float32, canonical shapes, in the store's order. Any thread, one at a time; converts
  // piece by piece and needs no second copy. kNumeric names the first parameter that holds a NaN or infinity; what was written by
  // then is no whole file.
  Status Write(WritableFile& file, Values values, const std::map<std::string, std::string>& metadata) const;

  uint64_t bytes() const { return buffer_.bytes(); }  // of memory

 private:
  struct Piece {
    int parameter = 0;
    bool momentum = false;
    size_t from = 0, to = 0, count = 0;  // floats: in the parameter, in the buffer, how many
  };
  void Plan(bool momentum, size_t& floats);
  std::span<const float> Native(int parameter, Values values) const;

  ParameterStore& parameters_;
  int threads_;
  HugeBuffer buffer_;
  std::vector<size_t> weight_at_, momentum_at_;  // by parameter, floats in the buffer
  std::vector<Piece> pieces_;                    // what Take copies, of like sizes
};

}  // namespace plateau
