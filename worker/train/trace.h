// Writes which samples, crops and masks each step saw, for people who debug data order and for the tests that hold it.
#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "common/error.h"
#include "dataset/batch.h"
#include "worker/model/network.h"
#include "worker/train/reducer.h"

namespace plateau {

// One JSON line a step into <path>.rank-<n>:
// {"step","rank","samples":[source ordinals],"crops":[XXH3 of each row's values],"masks":[XXH3 of each row's dropout masks],"loss"}
// where loss is the mean over the global batch. Training thread only.
class TraceWriter {
 public:
  // `masks` are those of dropout layers of `network` with `shapes` (InferShapes) under `seed`.
  static Result<std::unique_ptr<TraceWriter>> Open(const std::string& path, int rank, const Network& network,
                                                   const std::vector<LayerShape>& shapes, uint64_t seed);
  // kIo when the line could not be written.
  Status Step(int64_t step, const Batch& batch, const StepTotals& totals);

 private:
  struct MaskedLayer {
    int layer = 0;
    double rate = 0;
    size_t units = 0;
  };
  TraceWriter() = default;
  std::string CropChecksum(const Batch& batch, size_t row);
  std::string MaskChecksum(int64_t step, uint64_t sample) const;

  std::string path_;
  int rank_ = 0;
  uint64_t seed_ = 0;
  std::vector<MaskedLayer> masked_;
  std::vector<float> values_;  // of a crop that came as bytes
  std::ofstream file_;
};

}  // namespace plateau
