// Buffers of the parameters on device and host, and the way between native and canonical layout.
#include "worker/backend/cuda/cuda_parameters.h"

#include <algorithm>

#include "common/check.h"
#include "worker/backend/cuda/kernels/kernels.h"

namespace plateau::cuda {
namespace {

// Canonical rows [first_row, ...) of a native tensor.
void RowsOut(const DeviceLayout& layout, const float* native, int64_t first_row, int64_t rows, float* canonical) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = native + (first_row + row) * layout.area * layout.stored_channels;
    float* to = canonical + row * layout.channels * layout.area;
    for (int64_t c = 0; c < layout.channels; ++c)
      for (int64_t place = 0; place < layout.area; ++place) to[c * layout.area + place] = from[place * layout.stored_channels + c];
  }
}

}  // namespace

CudaParameterStore::CudaParameterStore(Libraries& libraries, int threads, std::vector<ParameterInfo> infos, DeviceParameters layout)
    : libraries_(libraries), threads_(threads), infos_(std::move(infos)), layout_(std::move(layout)) {
  PLATEAU_CHECK(infos_.size() == layout_.layouts.size(), "{} parameters, {} layouts", infos_.size(), layout_.layouts.size());
  weights_ = DeviceBuffer(bytes());
  if (libraries_.precision() == Precision::kBf16) copy_ = DeviceBuffer(bytes() / 2);
  host_weights_ = PinnedBuffer(bytes());
}

std::span<float> CudaParameterStore::Mirror(const PinnedBuffer& buffer, int parameter) const {
  const DeviceLayout& at = layout(parameter);
  return {buffer.as<float>() + at.begin, static_cast<size_t>(at.count())};
}

std::span<float> CudaParameterStore::weight(int parameter) { return Mirror(host_weights_, parameter); }

std::span<float> CudaParameterStore::momentum(int parameter) {
  if (host_momenta_.bytes() == 0) host_momenta_ = PinnedBuffer(bytes());
  return Mirror(host_momenta_, parameter);
}

std::span<float> CudaParameterStore::gradient(int parameter) {
  if (host_gradients_.bytes() == 0) host_gradients_ = PinnedBuffer(bytes());
  return Mirror(host_gradients_, parameter);
}

void CudaParameterStore::EnsureTraining() {
  if (momenta_.bytes() > 0) return;
  DeviceBuffer momenta(bytes()), gradients(bytes());
  momenta_ = std::move(momenta);
  gradients_ = std::move(gradients);
  if (host_momenta_.bytes() > 0) WeightsChanged();  // momenta that were set before
}

void CudaParameterStore::ToCanonical(int parameter, std::span<const float> native, std::span<float> canonical) {
  const DeviceLayout& at = layout(parameter);
  const int64_t row = at.channels * at.area;
  PLATEAU_CHECK(static_cast<int64_t>(native.size()) == at.count() && static_cast<int64_t>(canonical.size()) == at.rows * row,
                "{}: {} native, {} canonical values", info(parameter).name, native.size(), canonical.size());
#pragma omp parallel for schedule(static) num_threads(threads_)
  for (int64_t r = 0; r < at.rows; ++r) RowsOut(at, native.data(), r, 1, canonical.data() + r * row);
}

void CudaParameterStore::FromCanonical(int parameter, std::span<const float> canonical, std::span<float> native) {
  const DeviceLayout& at = layout(parameter);
  const int64_t row = at.channels * at.area;
  PLATEAU_CHECK(static_cast<int64_t>(native.size()) == at.count() && static_cast<int64_t>(canonical.size()) == at.rows * row,
                "{}: {} native, {} canonical values", info(parameter).name, native.size(), canonical.size());
  std::ranges::fill(native, 0.0F);
#pragma omp parallel for schedule(static) num_threads(threads_)
  for (int64_t r = 0; r < at.rows; ++r) {
    const float* from = canonical.data() + r * row;
    float* to = native.data() + r * at.area * at.stored_channels;
    for (int64_t c = 0; c < at.channels; ++c)
      for (int64_t place = 0; place < at.area; ++place) to[place * at.stored_channels + c] = from[c * at.area + place];
  }
}

void CudaParameterStore::RowsToCanonical(int parameter, std::span<const float> native, int64_t first_row,
                                         std::span<float> canonical) const {
  const DeviceLayout& at = layout(parameter);
  const int64_t row = at.channels * at.area, rows = static_cast<int64_t>(canonical.size()) / row;
  PLATEAU_CHECK(static_cast<int64_t>(native.size()) == at.count() && rows * row == static_cast<int64_t>(canonical.size()) &&
                    first_row + rows <= at.rows,
                "{}: {} native values, {} canonical from row {} on", info(parameter).name, native.size(), canonical.size(),
                first_row);
  RowsOut(at, native.data(), first_row, rows, canonical.data());
}

void CudaParameterStore::WeightsChanged() {
  const cudaStream_t stream = libraries_.stream().get();
  CopyToDevice(weights(), host_weights_.data(), bytes(), stream);
  if (momenta_.bytes() > 0 && host_momenta_.bytes() > 0) CopyToDevice(momenta(), host_momenta_.data(), bytes(), stream);
  if (copy_.bytes() > 0) CastToBf16(stream, weights(), copy_.data(), total());
  libraries_.stream().Wait();  // the spans may be written again
}

void CudaParameterStore::Fetch() {
  const cudaStream_t stream = libraries_.stream().get();
  CopyToHost(host_weights_.data(), weights(), bytes(), stream);
  if (momenta_.bytes() > 0) {
    momentum(0);
    CopyToHost(host_momenta_.data(), momenta(), bytes(), stream);
  }
  libraries_.stream().Wait();
}

void CudaParameterStore::FetchGradients() {
  if (gradients_.bytes() == 0) return;
  gradient(0);
  CopyToHost(host_gradients_.data(), gradients(), bytes(), libraries_.stream().get());
  libraries_.stream().Wait();
}

const void* CudaParameterStore::map_weight_at(int parameter) const {
  if (libraries_.map_type() == DataType::kFloat) return weight_at(parameter);
  return copy_.at(static_cast<size_t>(layout(parameter).begin) * 2);
}

std::vector<ParameterSpan> CudaParameterStore::Spans(double weight_decay, bool decay_biases) const {
  std::vector<ParameterSpan> spans;
  for (const int parameter : order()) {
    const ParameterInfo& of = info(parameter);
    ParameterSpan span{.begin = layout(parameter).begin, .count = layout(parameter).count()};
    if (!of.learned())
      span.average_momentum = static_cast<float>(of.average_momentum);
    else if (decay_biases || !of.decays_as_bias())
      span.weight_decay = static_cast<float>(weight_decay);
    spans.push_back(span);
  }
  return spans;
}

}  // namespace plateau::cuda
