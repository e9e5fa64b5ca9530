// Copies and multiplies larger and larger blocks until one run takes long enough to be timed well.
#include "worker/backend/cuda/device_rates.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "worker/backend/cuda/fc_op.h"

namespace plateau::cuda {
namespace {

constexpr float kLongEnoughMs = 1.5F;
constexpr int kRuns = 11;
constexpr size_t kSmallestCopy = size_t{4} << 20, kLargestCopy = size_t{1} << 30;
constexpr int kSmallestSide = 256, kLargestSide = 8192;
constexpr size_t kWorkspace = size_t{64} << 20;
constexpr size_t kRandomStretch = (size_t{16} << 20) + 4096;  // no multiple of a matrix's rows

// Times what is asked for on the spot and keeps nothing.
class Untold final : public AlgorithmChoices {
 public:
  std::string Choose(const std::string&, const std::function<std::string()>& time) override { return time(); }
};

// Median milliseconds of one run, after one that warms up.
float TimeOnce(const Stream& stream, int runs, const std::function<void()>& run) {
  run();
  stream.Wait();
  std::vector<float> times;
  for (int i = 0; i < runs; ++i) {
    Event begin(true), end(true);
    begin.Record(stream.get());
    run();
    end.Record(stream.get());
    end.Wait();
    times.push_back(end.MillisecondsSince(begin));
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

size_t FreeBytes() {
  size_t free = 0, total = 0;
  Check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return free;
}

double CopyRate(const Stream& stream) {
  for (size_t bytes = kSmallestCopy;; bytes *= 4) {
    const DeviceBuffer from(bytes), to(bytes);
    const auto copy = [&] {
      Check(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, stream.get()), "copying within the device");
    };
    const bool last = bytes * 4 > kLargestCopy || bytes * 4 > FreeBytes() / 4;
    const float once_ms = TimeOnce(stream, 1, copy);
    if (once_ms >= kLongEnoughMs || last) return 2.0 * static_cast<double>(bytes) / (TimeOnce(stream, kRuns, copy) * 1e-3);
  }
}

// Bits as those of training: products of zeros, or of one number, draw less power and are faster. Numbers of either sign from a half to
// two, as bf16 and as float; a stretch of them again and again.
void FillAtRandom(std::byte* data, size_t bytes, const Stream& stream) {
  std::vector<uint32_t> words(std::min(bytes, kRandomStretch) / sizeof(uint32_t));
  uint32_t seed = 1;
  for (uint32_t& word : words) {
    seed = seed * 1664525U + 1013904223U;
    word = ((seed ^ seed >> 15) & 0x80FF80FFU) | 0x3F003F00U;  // signs, mantissas and the lowest bit of the exponents
  }
  const size_t stretch = words.size() * sizeof(uint32_t);
  for (size_t at = 0; at < bytes; at += stretch) CopyToDevice(data + at, words.data(), std::min(stretch, bytes - at), stream.get());
  stream.Wait();
}

double GemmRate(Libraries& libraries) {
  const size_t value = static_cast<size_t>(SizeOf(libraries.map_type()));
  for (int side = kSmallestSide;; side *= 2) {
    const size_t matrix = static_cast<size_t>(side) * static_cast<size_t>(side) * value;
    const auto product = FcOp::Create(libraries, "the largest product", {.rows = side, .inputs = side, .outputs = side},
                                      {.bias = false, .training = false}, kWorkspace);
    const DeviceBuffer workspace(std::max(product->workspace_bytes(), size_t{1})), y(matrix);
    auto* operands = static_cast<std::byte*>(libraries.TimingScratch(2 * matrix));
    FillAtRandom(operands, 2 * matrix, libraries.stream());
    const auto multiply = [&] { product->Forward(operands, operands + matrix, nullptr, y.data(), workspace.data()); };
    const bool last = side * 2 > kLargestSide || 12 * matrix > FreeBytes() / 2;
    const float once_ms = TimeOnce(libraries.stream(), 1, multiply);
    if (once_ms < kLongEnoughMs && !last) continue;
    const double flops = 2.0 * side * side * static_cast<double>(side);
    return flops / (TimeOnce(libraries.stream(), kRuns, multiply) * 1e-3);
  }
}

}  // namespace

Result<DeviceRates> MeasureDeviceRates(int device, Precision precision) {
  try {
    Untold choices;
    Libraries libraries(device, precision, false, choices);
    DeviceRates rates;
    rates.copy_bytes_per_s = CopyRate(libraries.stream());
    rates.gemm_flops_per_s = GemmRate(libraries);
    libraries.ReleaseScratch();
    return rates;
  } catch (const Failure& failure) {
    return Fail(failure.code(), "measuring device {}: {}", device, failure.what());
  }
}

}  // namespace plateau::cuda
