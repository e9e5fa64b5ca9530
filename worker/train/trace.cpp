// Writes which samples, crops and masks each step saw.
#include "worker/train/trace.h"

#include <nlohmann/json.hpp>

#include "common/checksum.h"
#include "worker/nn/dropout.h"

namespace plateau {

Result<std::unique_ptr<TraceWriter>> TraceWriter::Open(const std::string& path, int rank, const Network& network,
                                                       const std::vector<LayerShape>& shapes, uint64_t seed) {
  auto trace = std::unique_ptr<TraceWriter>(new TraceWriter);
  trace->path_ = fmt::format("{}.rank-{}", path, rank);
  trace->rank_ = rank;
  trace->seed_ = seed;
  for (size_t i = 0; i < network.layers.size(); ++i)
    if (network.layers[i].dropout > 0)
      trace->masked_.push_back({.layer = static_cast<int>(i),
                                .rate = network.layers[i].dropout,
                                .units = static_cast<size_t>(shapes[i].channels) * static_cast<size_t>(shapes[i].height) *
                                         static_cast<size_t>(shapes[i].width)});
  trace->file_.open(trace->path_, std::ios::trunc);
  if (!trace->file_)
    return Fail(ErrorCode::kInvalidInput, "--trace {}: cannot be written; give a path in a folder that exists", path);
  return trace;
}

std::string TraceWriter::MaskChecksum(int64_t step, uint64_t sample) const {
  ChecksumStream sum;
  std::vector<float> units;
  for (const MaskedLayer& masked : masked_) {
    units.assign(masked.units, 1.0F);
    ApplyDropout({.seed = seed_, .step = static_cast<uint64_t>(step), .sample = sample, .layer = masked.layer}, masked.rate, units);
    sum.Add(units.data(), units.size() * sizeof(float));
  }
  return ChecksumText(sum.Value());
}

// Of the values, also where a device makes them of bytes: traces compare across devices.
std::string TraceWriter::CropChecksum(const Batch& batch, size_t row) {
  const auto rows = static_cast<size_t>(batch.rows);
  std::span<const float> values;
  if (batch.pixels.empty()) {
    const size_t count = batch.images.size() / rows;
    values = std::span(batch.images).subspan(row * count, count);
  } else {
    const size_t count = batch.pixels.size() / rows;
    values_.resize(count);
    ToValues(std::span(batch.pixels).subspan(row * count, count), batch.scales[row], batch.side, values_);
    values = values_;
  }
  return ChecksumText(Checksum({reinterpret_cast<const char*>(values.data()), values.size_bytes()}));
}

Status TraceWriter::Step(int64_t step, const Batch& batch, const StepTotals& totals) {
  std::vector<uint64_t> samples;
  std::vector<std::string> crops, masks;
  for (size_t row = 0; row < static_cast<size_t>(batch.rows); ++row) {
    if (batch.weights[row] == 0) continue;
    samples.push_back(batch.sample_index[row]);
    crops.push_back(CropChecksum(batch, row));
    masks.push_back(MaskChecksum(step, batch.sample_index[row]));
  }
  const nlohmann::ordered_json line = {{"step", step},       {"rank", rank_},
                                       {"samples", samples}, {"crops", crops},
                                       {"masks", masks},     {"loss", totals.loss / static_cast<double>(totals.images)}};
  file_ << line.dump() << '\n' << std::flush;
  if (!file_) return Fail(ErrorCode::kIo, "{}: could not be written (full disk?); train without --trace or elsewhere", path_);
  return {};
}

}  // namespace plateau
