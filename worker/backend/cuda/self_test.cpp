// Numbers of few bits, so that plain loops on the host know the exact result in every precision.
#include "worker/backend/cuda/self_test.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include <nccl.h>

#include "common/log.h"
#include "worker/backend/cuda/conv_op.h"
#include "worker/backend/cuda/device_reducer_sum.h"

namespace plateau::cuda {
namespace {

constexpr int kImages = 2, kSide = 8, kIn = 16, kOut = 32, kKernel = 3;
constexpr size_t kWorkspaceLimit = size_t{64} << 20;
constexpr int64_t kSummed = 1 << 16;
constexpr int kAborted = 1;  // exit code: something that is there fails

class Untold final : public AlgorithmChoices {
 public:
  std::string Choose(const std::string&, const std::function<std::string()>& time) override { return time(); }
};

// Multiples of 1/4 from -1 to 1.
std::vector<float> Quarters(size_t count, uint32_t seed) {
  std::vector<float> values(count);
  for (float& value : values) {
    seed = seed * 1664525U + 1013904223U;
    value = static_cast<float>(static_cast<int>(seed >> 24) % 9 - 4) / 4;
  }
  return values;
}

// Bits of the values in the map type; bf16 holds them exactly.
std::vector<std::byte> Packed(const std::vector<float>& values, DataType type) {
  const auto size = static_cast<size_t>(SizeOf(type));
  std::vector<std::byte> bytes(values.size() * size);
  for (size_t i = 0; i < values.size(); ++i) {
    uint32_t bits = 0;
    std::memcpy(&bits, &values[i], sizeof(bits));
    if (type == DataType::kBf16) bits >>= 16;
    std::memcpy(bytes.data() + i * size, &bits, size);
  }
  return bytes;
}

float Unpacked(const std::vector<std::byte>& bytes, size_t i, DataType type) {
  const auto size = static_cast<size_t>(SizeOf(type));
  uint32_t bits = 0;
  std::memcpy(&bits, bytes.data() + i * size, size);
  if (type == DataType::kBf16) bits <<= 16;
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// relu(x * w + b) at [n, h, w, k]; x NHWC, w KRSC, padding 1.
float Convolved(const std::vector<float>& x, const std::vector<float>& w, const std::vector<float>& b, int n, int h, int v, int k) {
  float sum = b[static_cast<size_t>(k)];
  for (int r = 0; r < kKernel; ++r)
    for (int s = 0; s < kKernel; ++s) {
      const int row = h + r - 1, column = v + s - 1;
      if (row < 0 || row >= kSide || column < 0 || column >= kSide) continue;
      for (int c = 0; c < kIn; ++c)
        sum += x[static_cast<size_t>(((n * kSide + row) * kSide + column) * kIn + c)] *
               w[static_cast<size_t>(((k * kKernel + r) * kKernel + s) * kIn + c)];
    }
  return std::max(sum, 0.0F);
}

DeviceBuffer Uploaded(const std::vector<std::byte>& bytes, const Stream& stream) {
  DeviceBuffer buffer(bytes.size());
  CopyToDevice(buffer.data(), bytes.data(), bytes.size(), stream.get());
  stream.Wait();
  return buffer;
}

// Throws Failure when an output is not what the host computes.
std::string TestConvolution(int device, Precision precision) {
  Untold choices;
  Libraries libraries(device, precision, true, choices);
  const DataType type = libraries.map_type();
  const MapShape in{kImages, kSide, kSide, kIn, kIn}, out{kImages, kSide, kSide, kOut, kOut};
  const auto op = ConvOp::Create(libraries, "self-test", {.x = in, .y = out, .kernel = kKernel, .pad = 1},
                                 {.bias = true, .relu = true, .training = false}, kWorkspaceLimit);
  const auto x = Quarters(static_cast<size_t>(in.values()), 1), w = Quarters(size_t{kOut} * kKernel * kKernel * kIn, 2),
             b = Quarters(kOut, 3);
  const Stream& stream = libraries.stream();
  const DeviceBuffer dx = Uploaded(Packed(x, type), stream), dw = Uploaded(Packed(w, type), stream),
                     db = Uploaded(Packed(b, DataType::kFloat), stream), workspace(std::max(op->workspace_bytes(), size_t{1}));
  std::vector<std::byte> y(static_cast<size_t>(out.values() * SizeOf(type)));
  const DeviceBuffer dy(y.size());
  op->Forward(dx.data(), dw.data(), db.as<float>(), dy.data(), workspace.data());
  CopyToHost(y.data(), dy.data(), y.size(), stream.get());
  stream.Wait();
  size_t at = 0;
  for (int n = 0; n < kImages; ++n)
    for (int h = 0; h < kSide; ++h)
      for (int v = 0; v < kSide; ++v)
        for (int k = 0; k < kOut; ++k, ++at) {
          const float wanted = Convolved(x, w, b, n, h, v, k), got = Unpacked(y, at, type);
          // One rounding to the map type; Winograd's transforms are not exact.
          const float slack = type == DataType::kBf16 ? 0.004F * wanted + 0.01F : 1e-4F;
          if (!(std::abs(got - wanted) <= slack))
            throw Failure(ErrorCode::kInternal, fmt::format("a {} convolution by {} gives {} at image {}, row {}, column {}, channel {}; {} is right",
                                                            PrecisionName(precision), libraries.versions(), got, n, h, v, k, wanted));
        }
  return fmt::format("convolution in {}: right", PrecisionName(precision));
}

void Check(ncclResult_t code, const char* what) {
  if (code != ncclSuccess)
    throw Failure(ErrorCode::kUnavailable, fmt::format("{}: NCCL says: {} ({}); NCCL_DEBUG=INFO tells more", what, ncclGetErrorString(code),
                                                       ncclGetLastError(nullptr)));
}

// One device's part of a sum over all.
struct Part {
  int device = 0;
  Stream stream;
  DeviceBuffer values{kSummed * sizeof(float)};
  ncclComm_t communicator = nullptr;
  ~Part() {
    if (communicator != nullptr) ncclCommDestroy(communicator);
  }
};

// What a part gives to a sum: whole numbers, exact in any order.
std::vector<float> Given(int part) {
  std::vector<float> values(kSummed);
  for (int64_t i = 0; i < kSummed; ++i) values[static_cast<size_t>(i)] = static_cast<float>((part + 1) * (i % 7));
  return values;
}

// Throws Failure where `sums` is not what `parts` parts gave; `whose` names the sum and where it lies.
void RequireSum(const DeviceBuffer& sums, int parts, const Stream& stream, const std::string& whose) {
  std::vector<float> values(kSummed);
  CopyToHost(values.data(), sums.data(), sums.bytes(), stream.get());
  stream.Wait();
  const float each = static_cast<float>(parts) * static_cast<float>(parts + 1) / 2;
  for (int64_t i = 0; i < kSummed; ++i)
    if (values[static_cast<size_t>(i)] != each * static_cast<float>(i % 7))
      throw Failure(ErrorCode::kInternal, fmt::format("{} is wrong at value {}: {} in place of {}", whose, i,
                                                      values[static_cast<size_t>(i)], each * static_cast<float>(i % 7)));
}

std::string TestAllReduce(int devices) {
  ncclUniqueId id;
  Check(ncclGetUniqueId(&id), "ncclGetUniqueId");
  std::vector<std::unique_ptr<Part>> parts;
  for (int device = 0; device < devices; ++device) {
    cuda::Check(cudaSetDevice(device), "cudaSetDevice");
    parts.push_back(std::make_unique<Part>());
    parts.back()->device = device;
    const std::vector<float> values = Given(device);
    CopyToDevice(parts.back()->values.data(), values.data(), parts.back()->values.bytes(), parts.back()->stream.get());
    parts.back()->stream.Wait();
  }
  Check(ncclGroupStart(), "ncclGroupStart");
  for (auto& part : parts) {
    cuda::Check(cudaSetDevice(part->device), "cudaSetDevice");
    Check(ncclCommInitRank(&part->communicator, devices, id, part->device), "ncclCommInitRank");
  }
  Check(ncclGroupEnd(), "joining the devices");
  Check(ncclGroupStart(), "ncclGroupStart");
  for (auto& part : parts)
    Check(ncclAllReduce(part->values.data(), part->values.data(), kSummed, ncclFloat, ncclSum, part->communicator, part->stream.get()),
          "ncclAllReduce");
  Check(ncclGroupEnd(), "summing over the devices");
  for (auto& part : parts) {
    cuda::Check(cudaSetDevice(part->device), "cudaSetDevice");
    RequireSum(part->values, devices, part->stream,
               fmt::format("NCCL's sum over {} devices, on device {},", devices, part->device));
  }
  cuda::Check(cudaSetDevice(0), "cudaSetDevice");
  return devices == 1 ? std::string("all-reduce by NCCL, of one device: right") : fmt::format("all-reduce by NCCL over {} devices: right", devices);
}

// A rank's part of the sum over all ranks, on its device.
struct RankPart {
  explicit RankPart(int rank) : mine(Given(rank)) {
    CopyToDevice(values.data(), mine.data(), values.bytes(), stream.get());
    stream.Wait();
  }
  std::vector<float> mine;
  Stream stream;
  DeviceBuffer values{kSummed * sizeof(float)};
  Event done;
};

// Collective. Null where this rank, or another one, cannot take part: `fault` says why.
std::unique_ptr<RankPart> PreparePart(Collective& collective, int device, std::string& fault) {
  std::unique_ptr<RankPart> part;
  try {
    cuda::Check(cudaSetDevice(device), "cudaSetDevice");
    part = std::make_unique<RankPart>(collective.rank());
  } catch (const Failure& failure) {
    fault = failure.what();
  }
  int64_t without = part ? 0 : 1;
  collective.AllReduceSum(std::span(&without, 1));
  if (without == 0) return part;
  if (fault.empty()) fault = fmt::format("{} of {} ranks cannot use their devices", without, collective.world_size());
  return nullptr;
}

// Failure on the way leaves the others without this rank's part.
void SumPart(RankSum& sum, RankPart& part) {
  const Stretch all[] = {{part.values.as<float>(), kSummed}};
  sum.Start(all);
  sum.Finish();
  part.done.Record(part.stream.get());
  sum.Wait(part.done);
}

// What is wrong with a sum that has come to its end, or nothing.
std::string FaultOf(const RankSum& sum, const RankPart& part, int ranks) {
  try {
    RequireSum(part.values, ranks, part.stream, fmt::format("the sum over {} ranks ({})", ranks, sum.description()));
    return "";
  } catch (const Failure& failure) {
    return failure.what();
  }
}

}  // namespace

Result<std::string> SelfTestRanks(Collective& collective, int device) {
  const int rank = collective.rank(), ranks = collective.world_size();
  std::unique_ptr<RankPart> part;  // both outlive a fault: to let go of them may wait for the other ranks
  std::unique_ptr<RankSum> sum;
  try {
    std::string fault;
    part = PreparePart(collective, device, fault);
    if (!part) return Fail(ErrorCode::kUnavailable, "rank {}, device {}: {}", rank, device, fault);
    PLATEAU_ASSIGN(sum, MakeRankSum({.device = device, .most_floats = kSummed}, collective, part->stream));
    SumPart(*sum, *part);
    fault = FaultOf(*sum, *part, ranks);
    collective.Barrier();  // NCCL is left by aborting, and another rank may still be summing
    if (!fault.empty()) return Fail(ErrorCode::kInternal, "rank {}, device {}: {}", rank, device, fault);
    return fmt::format("{} over {} ranks: right", sum->description(), ranks);
  } catch (const Failure& failure) {
    LogError("rank {}, device {}: {}; the other ranks would wait for its part of the sum without an end, so all are ended here",
             rank, device, failure.what());
    collective.Abort(kAborted);
    std::_Exit(kAborted);  // not reached
  }
}

Result<std::vector<std::string>> SelfTest(int device) {
  try {
    std::vector<std::string> lines;
    for (const Precision precision : {Precision::kFp32, Precision::kTf32, Precision::kBf16})
      lines.push_back(TestConvolution(device, precision));
    int devices = 0;
    Check(cudaGetDeviceCount(&devices), "cudaGetDeviceCount");
    if (device == 0) lines.push_back(TestAllReduce(devices));
    return lines;
  } catch (const Failure& failure) {
    return Fail(failure.code(), "device {}: {}", device, failure.what());
  }
}

}  // namespace plateau::cuda
