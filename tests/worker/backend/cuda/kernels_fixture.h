// Maps and arrays on the device for the tests of kernels: filled from the reference's maps, read back with their padding checked.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "common/random.h"
#include "tests/support/cuda_device.h"
#include "worker/backend/cuda/kernels/kernels.h"
#include "worker/backend/cuda/runtime.h"
#include "worker/nn/reference.h"

namespace plateau::cuda {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Rounds to bf16, nearest even, by hand: what kernels do with an instruction.
inline uint16_t Bf16Bits(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return 0x7FFF;
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}
inline float FromBf16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
inline float Rounded(float value, DataType type) { return type == DataType::kFloat ? value : FromBf16(Bf16Bits(value)); }
// Relative error of a value stored in `type` after arithmetic in float with an error of at most `arithmetic`.
inline double Bound(DataType type, double arithmetic = 1e-6) {
  return type == DataType::kFloat ? arithmetic : 0x1.0p-8 + arithmetic;
}

template <class T>
class DeviceArray {
 public:
  // Holds 0xFF bytes until a kernel writes there: NaN in floats.
  DeviceArray(const Stream& stream, int64_t count)
      : stream_(stream), count_(count), buffer_(static_cast<size_t>(count) * sizeof(T)) {
    Check(cudaMemsetAsync(buffer_.data(), 0xFF, buffer_.bytes(), stream.get()), "cudaMemsetAsync");
  }
  DeviceArray(const Stream& stream, const std::vector<T>& values) : DeviceArray(stream, static_cast<int64_t>(values.size())) {
    Write(values);
  }
  void Write(const std::vector<T>& values) {
    CopyToDevice(buffer_.data(), values.data(), buffer_.bytes(), stream_.get());
    stream_.Wait();
  }
  std::vector<T> Read() const {
    std::vector<T> values(static_cast<size_t>(count_));
    CopyToHost(values.data(), buffer_.data(), buffer_.bytes(), stream_.get());
    stream_.Wait();
    return values;
  }
  T ReadOne() const { return Read().at(0); }
  T* data() const { return buffer_.template as<T>(); }

 private:
  const Stream& stream_;
  int64_t count_;
  DeviceBuffer buffer_;
};

// A map on the device with the memory behind it.
class DeviceMap {
 public:
  // Not written yet: every value, padding included, is NaN.
  DeviceMap(const Stream& stream, DataType type, int n, int c, int h, int w)
      : shape_{.n = n, .h = h, .w = w, .channels = c, .stored = Stored(c)},
        type_(type),
        bytes_(stream, shape_.values() * SizeOf(type)) {}
  DeviceMap(const Stream& stream, DataType type, const reference::Map& values)
      : DeviceMap(stream, type, values.n, values.c, values.h, values.w) {
    Write(values);
  }
  // Zeros in the padding.
  void Write(const reference::Map& values) {
    std::vector<uint8_t> bytes(static_cast<size_t>(shape_.values() * SizeOf(type_)));
    ForEach([&](size_t at, int n, int c, int h, int w) {
      const auto value = c < shape_.channels ? static_cast<float>(values.at(n, c, h, w)) : 0.0F;
      const uint16_t half = Bf16Bits(value);
      if (type_ == DataType::kFloat)
        std::memcpy(bytes.data() + 4 * at, &value, 4);
      else
        std::memcpy(bytes.data() + 2 * at, &half, 2);
    });
    bytes_.Write(bytes);
  }
  // Fails the test when the padding is not zero.
  reference::Map Read() const {
    const std::vector<uint8_t> bytes = bytes_.Read();
    reference::Map values(shape_.n, shape_.channels, shape_.h, shape_.w);
    int64_t dirty = 0;
    ForEach([&](size_t at, int n, int c, int h, int w) {
      float value = 0;
      uint16_t half = 0;
      if (type_ == DataType::kFloat) {
        std::memcpy(&value, bytes.data() + 4 * at, 4);
      } else {
        std::memcpy(&half, bytes.data() + 2 * at, 2);
        value = FromBf16(half);
      }
      if (c < shape_.channels)
        values.at(n, c, h, w) = value;
      else
        dirty += !(value == 0);
    });
    EXPECT_EQ(dirty, 0) << "values of the padding are not zero";
    return values;
  }
  std::vector<uint8_t> Bytes() const { return bytes_.Read(); }
  Map map() const { return {.type = type_, .shape = shape_, .data = bytes_.data()}; }
  operator Map() const { return map(); }
  const MapShape& shape() const { return shape_; }

 private:
  template <class Visit>
  void ForEach(const Visit& visit) const {
    size_t at = 0;
    for (int n = 0; n < shape_.n; ++n)
      for (int h = 0; h < shape_.h; ++h)
        for (int w = 0; w < shape_.w; ++w)
          for (int c = 0; c < shape_.stored; ++c) visit(at++, n, c, h, w);
  }

  MapShape shape_;
  DataType type_;
  DeviceArray<uint8_t> bytes_;
};

// Normal values, already rounded to `type`, so that the reference starts from what the device holds.
inline reference::Map RandomMap(DataType type, int n, int c, int h, int w, uint64_t seed = 1) {
  RandomStream stream(seed, RandomPurpose::kSynthetic, 0, 0);
  reference::Map map(n, c, h, w);
  for (double& value : map.values) value = Rounded(static_cast<float>(stream.NextNormal()), type);
  return map;
}
inline std::vector<float> RandomFloats(int64_t count, uint64_t seed = 1) {
  RandomStream stream(seed, RandomPurpose::kSynthetic, 1, 0);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(stream.NextNormal());
  return values;
}

// The values' types and places in `got` that are further from `right` than `relative` of it plus `absolute`; empty when none is.
inline std::string Differences(std::span<const double> got, std::span<const double> right, double relative, double absolute = 0) {
  if (got.size() != right.size()) return fmt::format("{} values instead of {}", got.size(), right.size());
  std::string text;
  size_t wrong = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const bool both_nan = std::isnan(got[i]) && std::isnan(right[i]);
    if (both_nan || got[i] == right[i] || std::abs(got[i] - right[i]) <= relative * std::abs(right[i]) + absolute) continue;
    if (++wrong <= 3) text += fmt::format("[{}] is {:.9g} instead of {:.9g}; ", i, got[i], right[i]);
  }
  return wrong == 0 ? "" : fmt::format("{} of {} values: {}", wrong, got.size(), text);
}
inline std::vector<double> Doubles(const std::vector<float>& values) { return {values.begin(), values.end()}; }

// A test of kernels in both types of maps.
class KernelTest : public testing::TestWithParam<DataType> {
 protected:
  void SetUp() override {
    SkipWithoutDevice();
    if (!IsSkipped()) stream_ = std::make_unique<Stream>();
  }
  Stream& stream() { return *stream_; }
  cudaStream_t queue() { return stream_->get(); }
  DataType type() const { return GetParam(); }
  DeviceMap Upload(const reference::Map& values) { return {stream(), type(), values}; }
  DeviceMap Fresh(int n, int c, int h, int w) { return {stream(), type(), n, c, h, w}; }
  template <class T>
  DeviceArray<T> Upload(const std::vector<T>& values) {
    return {stream(), values};
  }
  DeviceArray<int32_t> Flag() { return {stream(), std::vector<int32_t>{0}}; }

 private:
  std::unique_ptr<Stream> stream_;
};

inline std::string TypeName(const testing::TestParamInfo<DataType>& info) {
  return info.param == DataType::kFloat ? "Float" : "Bf16";
}
#define PLATEAU_BOTH_TYPES(Test) INSTANTIATE_TEST_SUITE_P(Types, Test, testing::Values(DataType::kFloat, DataType::kBf16), TypeName)

}  // namespace plateau::cuda
