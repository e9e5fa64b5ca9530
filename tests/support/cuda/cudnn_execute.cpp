// How plans of the emulated cuDNN run: tensors are read into dense NHWC floats, computed, and written back through their strides.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>

#include <fmt/format.h>

#include "tests/support/cuda/cudnn_graph.h"
#include "tests/support/cuda/numbers.h"
#include "tests/support/cuda/system.h"

namespace plateau::emulated {
namespace {

using Values = std::vector<float>;  // dense, n h w c

struct Pack {
  std::map<int64_t, void*> pointers;
  void* workspace = nullptr;
};

// Calls f(place in dense NHWC, place in memory) for every value.
template <class F>
void ForEach(const CudnnTensor& tensor, F f) {
  const auto& d = tensor.dims;
  const auto& s = tensor.strides;
#pragma omp parallel for collapse(2) schedule(static) if (tensor.values() > 16384)
  for (int64_t n = 0; n < d[0]; ++n)
    for (int64_t h = 0; h < d[2]; ++h)
      for (int64_t w = 0; w < d[3]; ++w)
        for (int64_t c = 0; c < d[1]; ++c)
          f(((n * d[2] + h) * d[3] + w) * d[1] + c, n * s[0] + c * s[1] + h * s[2] + w * s[3]);
}

Values Load(const CudnnTensor& tensor, const void* data) {
  Values values(static_cast<size_t>(tensor.values()));
  if (tensor.type == CUDNN_DATA_FLOAT)
    ForEach(tensor, [&](int64_t dense, int64_t at) { values[static_cast<size_t>(dense)] = LoadFloat(data, at); });
  else
    ForEach(tensor, [&](int64_t dense, int64_t at) { values[static_cast<size_t>(dense)] = LoadBf16(data, at); });
  return values;
}

void Store(const CudnnTensor& tensor, const Values& values, void* data) {
  if (tensor.type == CUDNN_DATA_FLOAT)
    ForEach(tensor, [&](int64_t dense, int64_t at) { StoreFloat(data, at, values[static_cast<size_t>(dense)]); });
  else
    ForEach(tensor, [&](int64_t dense, int64_t at) { StoreBf16(data, at, values[static_cast<size_t>(dense)]); });
}

// The order in which `count` terms are summed: in `split` strands, backwards on every other call of an engine that is not
// deterministic.
std::vector<int64_t> SumOrder(const CudnnPlan& plan, int64_t count) {
  static std::atomic<int64_t> calls{0};
  std::vector<int64_t> order;
  for (int64_t strand = 0; strand < plan.split; ++strand)
    for (int64_t i = strand; i < count; i += plan.split) order.push_back(i);
  if (plan.engine.changes_order && calls++ % 2 == 1) std::reverse(order.begin(), order.end());
  return order;
}

// One convolution as a sum over taps: out[n, i, j, :] = sum over taps (r, s) and inputs of source[n, p, q, input] * weights[tap, input, :].
struct Gather {
  int64_t n, out_h, out_w, outputs, in_h, in_w, inputs, taps_h, taps_w;
  CudnnWindow window;
  bool transposed;  // backward data

  // Where output row (or column) `i` reads for tap `r`; false: outside.
  bool Source(int axis, int64_t i, int64_t r, int64_t limit, int64_t& at) const {
    const int64_t pre = window.pre[axis], stride = window.stride[axis], reach = r * window.dilation[axis];
    at = transposed ? i + pre - reach : i * stride - pre + reach;
    if (transposed && (at < 0 || at % stride != 0)) return false;
    if (transposed) at /= stride;
    return at >= 0 && at < limit;
  }
};

template <class Sum>
void SumPixel(const Gather& g, const float* image, const Sum* weights, const std::vector<int64_t>& order, int64_t i, int64_t j, Sum* sums) {
  std::fill(sums, sums + g.outputs, Sum{0});
  for (int64_t r = 0; r < g.taps_h; ++r) {
    for (int64_t s = 0; s < g.taps_w; ++s) {
      int64_t p = 0, q = 0;
      if (!g.Source(0, i, r, g.in_h, p) || !g.Source(1, j, s, g.in_w, q)) continue;
      const float* const from = image + (p * g.in_w + q) * g.inputs;
      const Sum* const tap = weights + (r * g.taps_w + s) * g.inputs * g.outputs;
      for (const int64_t input : order) {
        const Sum factor = from[input];
        const Sum* const row = tap + input * g.outputs;
        for (int64_t o = 0; o < g.outputs; ++o) sums[o] += factor * row[o];
      }
    }
  }
}

template <class Sum>
Values RunGather(const Gather& g, const Values& source, const std::vector<Sum>& weights, const std::vector<int64_t>& order) {
  Values out(static_cast<size_t>(g.n * g.out_h * g.out_w * g.outputs));
#pragma omp parallel
  {
    std::vector<Sum> sums(static_cast<size_t>(g.outputs));
#pragma omp for collapse(2) schedule(static)
    for (int64_t n = 0; n < g.n; ++n)
      for (int64_t i = 0; i < g.out_h; ++i)
        for (int64_t j = 0; j < g.out_w; ++j) {
          SumPixel(g, source.data() + n * g.in_h * g.in_w * g.inputs, weights.data(), order, i, j, sums.data());
          std::copy(sums.begin(), sums.end(), out.begin() + ((n * g.out_h + i) * g.out_w + j) * g.outputs);
        }
  }
  return out;
}

// [k, r, s, c] -> [r, s, c, k] for the forward pass, [r, s, k, c] for the data gradient; taps in reverse when flipped.
template <class Sum>
std::vector<Sum> ArrangeWeights(const CudnnTensor& w, const Values& values, bool outputs_are_k, bool flipped) {
  const int64_t k = w.dims[0], c = w.dims[1], taps = w.dims[2] * w.dims[3];
  std::vector<Sum> arranged(values.size());
  for (int64_t ik = 0; ik < k; ++ik)
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t ic = 0; ic < c; ++ic) {
        const int64_t to = flipped ? taps - 1 - tap : tap;
        const int64_t at = outputs_are_k ? (to * c + ic) * k + ik : (to * k + ik) * c + ic;
        arranged[static_cast<size_t>(at)] = values[static_cast<size_t>((ik * taps + tap) * c + ic)];
      }
  return arranged;
}

template <class Sum>
Values MapConvolution(const CudnnPlan& plan, const CudnnOperation& o, const Values& source, const Values& w) {
  const bool forward = o.kind == CudnnKind::kForward;
  const Gather gather{o.out.dims[0],  o.out.dims[2], o.out.dims[3], o.out.dims[1], o.a.dims[2], o.a.dims[3],
                      o.a.dims[1],    o.b.dims[2],   o.b.dims[3],   o.window,      !forward};
  return RunGather<Sum>(gather, source, ArrangeWeights<Sum>(o.b, w, forward, o.window.flipped), SumOrder(plan, o.a.dims[1]));
}

// Adds one image's share of the gradient of channels [first, last) at one tap: sums[c - first][k].
template <class Sum>
void AddImage(const CudnnOperation& o, const float* x, const float* dy, int64_t r, int64_t s, int64_t first, int64_t last, Sum* sums) {
  const int64_t h = o.a.dims[2], w = o.a.dims[3], channels = o.a.dims[1], k = o.b.dims[1];
  for (int64_t p = 0; p < o.b.dims[2]; ++p) {
    const int64_t row = p * o.window.stride[0] - o.window.pre[0] + r * o.window.dilation[0];
    if (row < 0 || row >= h) continue;
    for (int64_t q = 0; q < o.b.dims[3]; ++q) {
      const int64_t column = q * o.window.stride[1] - o.window.pre[1] + s * o.window.dilation[1];
      if (column < 0 || column >= w) continue;
      const float* const from = x + (row * w + column) * channels;
      const float* const gradient = dy + (p * o.b.dims[3] + q) * k;
      for (int64_t c = first; c < last; ++c) {
        const Sum factor = from[c];
        Sum* const sum = sums + (c - first) * k;
        for (int64_t ik = 0; ik < k; ++ik) sum[ik] += factor * static_cast<Sum>(gradient[ik]);
      }
    }
  }
}

template <class Sum>
Values FilterConvolution(const CudnnPlan& plan, const CudnnOperation& o, const Values& x, const Values& dy) {
  constexpr int64_t kChannels = 16;  // a task's
  const int64_t n = o.a.dims[0], channels = o.a.dims[1], k = o.b.dims[1], taps_w = o.out.dims[3], taps = o.out.dims[2] * taps_w;
  const int64_t parts = (channels + kChannels - 1) / kChannels;
  const std::vector<int64_t> order = SumOrder(plan, n);
  Values dw(static_cast<size_t>(o.out.values()));
#pragma omp parallel for collapse(2) schedule(dynamic)
  for (int64_t tap = 0; tap < taps; ++tap)
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t first = part * kChannels, last = std::min(channels, first + kChannels);
      std::vector<Sum> sums(static_cast<size_t>((last - first) * k));
      for (const int64_t image : order)
        AddImage(o, x.data() + image * o.a.dims[2] * o.a.dims[3] * channels, dy.data() + image * o.b.dims[2] * o.b.dims[3] * k,
                 tap / taps_w, tap % taps_w, first, last, sums.data());
      const int64_t to = o.window.flipped ? taps - 1 - tap : tap;
      for (int64_t c = first; c < last; ++c)
        for (int64_t ik = 0; ik < k; ++ik)
          dw[static_cast<size_t>((ik * taps + to) * channels + c)] = static_cast<float>(sums[static_cast<size_t>((c - first) * k + ik)]);
    }
  return dw;
}

Values Convolve(const CudnnPlan& plan, const CudnnOperation& o, Values a, Values b) {
  for (Values* operand : {&a, &b})
    for (float& value : *operand) {
      if (plan.engine.rounds_to_tf32) value = RoundToTf32(value);
      if (plan.engine.rounds_to_bf16) value = RoundToBf16(value);
    }
  if (o.kind == CudnnKind::kBackwardFilter)
    return plan.engine.sums_in_float ? FilterConvolution<float>(plan, o, a, b) : FilterConvolution<double>(plan, o, a, b);
  return plan.engine.sums_in_float ? MapConvolution<float>(plan, o, a, b) : MapConvolution<double>(plan, o, a, b);
}

// Where value `dense` of `whole` finds its partner in `part`, whose dimensions are the same or 1.
int64_t Spread(const CudnnTensor& whole, const CudnnTensor& part, int64_t dense) {
  const auto& d = whole.dims;
  const int64_t c = dense % d[1], w = dense / d[1] % d[3], h = dense / d[1] / d[3] % d[2], n = dense / d[1] / d[3] / d[2];
  const auto in = [&](size_t axis, int64_t i) { return part.dims[axis] == 1 ? 0 : i; };
  return ((in(0, n) * part.dims[2] + in(2, h)) * part.dims[3] + in(3, w)) * part.dims[1] + in(1, c);
}

float Point(const CudnnOperation& o, float a, float b) {
  const auto lower = static_cast<float>(o.lower_clip), upper = static_cast<float>(o.upper_clip), slope = static_cast<float>(o.lower_slope);
  switch (o.mode) {
    case CUDNN_POINTWISE_ADD: return static_cast<float>(o.alpha) * a + static_cast<float>(o.beta) * b;
    case CUDNN_POINTWISE_MUL: return static_cast<float>(o.alpha) * a * (static_cast<float>(o.beta) * b);
    case CUDNN_POINTWISE_RELU_FWD: return a > upper ? upper : a < lower ? lower + slope * (a - lower) : a;
    case CUDNN_POINTWISE_RELU_BWD: return b > upper ? 0 : b > lower ? a : slope * a;
    default: return a;
  }
}

Values RunPointwise(const CudnnOperation& o, const Values& a, const Values& b) {
  Values out(a.size());
  for (size_t i = 0; i < a.size(); ++i)
    out[i] = Point(o, a[i], o.has_b ? b[static_cast<size_t>(Spread(o.out, o.b, static_cast<int64_t>(i)))] : 0);
  return out;
}

Values RunOperation(const CudnnPlan& plan, const Pack& pack, const CudnnOperation& o, const Values& a, const Values& b) {
  if (o.kind == CudnnKind::kPointwise) return RunPointwise(o, a, b);
  Values out = Convolve(plan, o, a, b);
  if (o.alpha == 1 && o.beta == 0) return out;
  const Values old = o.beta == 0 ? Values(out.size()) : Load(o.out, pack.pointers.at(o.out.uid));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(o.alpha) * out[i] + static_cast<float>(o.beta) * old[i];
  return out;
}

void RunPlan(const CudnnPlan& plan, const Pack& pack) {
  std::map<int64_t, Values> made;
  const auto get = [&](const CudnnTensor& tensor) {
    const auto found = made.find(tensor.uid);
    return found != made.end() ? found->second : Load(tensor, pack.pointers.at(tensor.uid));
  };
  for (const CudnnOperation& o : plan.graph->operations) {
    Values out = RunOperation(plan, pack, o, get(o.a), o.has_b ? get(o.b) : Values{});
    if (o.out.type == CUDNN_DATA_BFLOAT16)
      for (float& value : out) value = RoundToBf16(value);
    if (!o.out.is_virtual) Store(o.out, out, pack.pointers.at(o.out.uid));
    made[o.out.uid] = std::move(out);
  }
  if (plan.workspace_bytes > 0) std::memset(pack.workspace, 0xFF, static_cast<size_t>(plan.workspace_bytes));  // scratch: nobody's
}

void CheckPointer(const CudnnTensor& tensor, const void* data) {
  if (data == nullptr) Refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, fmt::format("variant pack: tensor {} is null", tensor.uid));
  if (reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(tensor.alignment) != 0)
    Refuse(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER,
           fmt::format("variant pack: tensor {} is not aligned to {} bytes", tensor.uid, tensor.alignment));
  const Allocation* const found = FindAllocation(data, static_cast<size_t>(tensor.bytes()));
  if (found == nullptr || found->device < 0)
    Refuse(CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND,
           fmt::format("variant pack: the {} bytes of tensor {} are not in device memory", tensor.bytes(), tensor.uid));
}

bool Overlap(const void* a, int64_t a_bytes, const void* b, int64_t b_bytes) {
  const auto first = reinterpret_cast<uintptr_t>(a), second = reinterpret_cast<uintptr_t>(b);
  return first < second + static_cast<uintptr_t>(b_bytes) && second < first + static_cast<uintptr_t>(a_bytes);
}

// What a convolution reads must be neither written nor scratch.
void CheckOverlaps(const CudnnPlan& plan, const Pack& pack) {
  for (const int64_t uid : plan.graph->bound) {
    const CudnnTensor& tensor = plan.graph->tensors.at(uid);
    if (plan.workspace_bytes > 0 && Overlap(pack.pointers.at(uid), tensor.bytes(), pack.workspace, plan.workspace_bytes))
      Refuse(CUDNN_STATUS_BAD_PARAM, fmt::format("variant pack: tensor {} lies in the workspace", uid));
  }
  const CudnnOperation& convolution = plan.graph->convolution();
  for (const CudnnOperation& o : plan.graph->operations)
    for (const CudnnTensor* read : {&convolution.a, &convolution.b})
      if (!o.out.is_virtual && Overlap(pack.pointers.at(o.out.uid), o.out.bytes(), pack.pointers.at(read->uid), read->bytes()))
        Refuse(CUDNN_STATUS_BAD_PARAM, fmt::format("variant pack: tensor {} is written over tensor {}", o.out.uid, read->uid));
}

}  // namespace

std::function<void()> BindPlan(const std::shared_ptr<const CudnnPlan>& plan, const CudnnDescriptor& descriptor) {
  const std::vector<int64_t> uids = descriptor.Ints(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const std::vector<int64_t> pointers = descriptor.Ints(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  Pack pack;
  pack.workspace = descriptor.Pointer(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
  for (size_t i = 0; i < uids.size(); ++i) {
    if (std::count(plan->graph->bound.begin(), plan->graph->bound.end(), uids[i]) == 0)
      Refuse(CUDNN_STATUS_BAD_PARAM, fmt::format("variant pack: the graph binds no tensor {}", uids[i]));
    if (!pack.pointers.emplace(uids[i], reinterpret_cast<void*>(pointers[i])).second)
      Refuse(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES, fmt::format("variant pack: tensor {} twice", uids[i]));
  }
  const Lock lock(TheSystem().mutex);
  for (const int64_t uid : plan->graph->bound) {
    if (pack.pointers.count(uid) == 0) Refuse(CUDNN_STATUS_BAD_PARAM, fmt::format("variant pack: no pointer of tensor {}", uid));
    CheckPointer(plan->graph->tensors.at(uid), pack.pointers.at(uid));
  }
  if (plan->workspace_bytes > 0 && FindAllocation(pack.workspace, static_cast<size_t>(plan->workspace_bytes)) == nullptr)
    Refuse(CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT, fmt::format("variant pack: no workspace of {} bytes", plan->workspace_bytes));
  CheckOverlaps(*plan, pack);
  return [plan, pack] { RunPlan(*plan, pack); };
}

}  // namespace plateau::emulated
