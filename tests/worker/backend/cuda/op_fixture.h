// What the tests of the CUDA operators share: choices that can be looked at, maps on the device, and how far results may be off.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "common/log.h"
#include "common/random.h"
#include "tests/support/cuda_device.h"
#include "worker/backend/cuda/libraries.h"
#include "worker/nn/reference.h"

namespace plateau::cuda {

constexpr size_t kAmpleWorkspace = size_t{256} << 20;

// Keeps what was found, and counts how often it had to be looked for.
class RecordedChoices final : public AlgorithmChoices {
 public:
  std::string Choose(const std::string& key, const std::function<std::string()>& time) override {
    const auto known = texts.find(key);
    if (known != texts.end()) return known->second;
    ++timed;
    return texts[key] = time();
  }
  std::map<std::string, std::string> texts;
  int timed = 0;
};

// Has one answer.
class OneChoice final : public AlgorithmChoices {
 public:
  std::string Choose(const std::string&, const std::function<std::string()>& time) override { return text.empty() ? time() : text; }
  std::string text;  // empty: what timing finds
};

inline float RoundToBf16(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
  std::memcpy(&value, &bits, sizeof(bits));
  return value;
}

class OpTest : public DeviceTest {
 protected:
  OpTest() { InitLog("op"); }  // to stderr, which tests capture

  // Relative L2. Products and sums of floats: 1e-5. TF32 rounds both factors by 2^-11 at most. In bf16 results, the product in
  // front of an own kernel and the bias are each rounded once, by 2^-8 at most.
  static double Tolerance(Precision precision) {
    return precision == Precision::kFp32 ? 1e-5 : precision == Precision::kTf32 ? 2e-3 : 3 * 0x1p-8;
  }

  // Values that the precision's maps hold exactly, so that both sides compute with the same numbers.
  reference::Map Random(Precision precision, int n, int c, int h, int w, double sigma = 1) {
    reference::Map map(n, c, h, w);
    for (double& value : map.values) {
      const auto single = static_cast<float>(sigma * random_.NextNormal());
      value = double{precision == Precision::kBf16 ? RoundToBf16(single) : single};
    }
    return map;
  }

  // [n, h, w, stored], zeros behind the channels. Rows behind n * ... are the caller's.
  static std::vector<float> Nhwc(const reference::Map& map, int stored) {
    std::vector<float> values(static_cast<size_t>(map.n) * map.h * map.w * stored);
    for (int n = 0; n < map.n; ++n)
      for (int c = 0; c < map.c; ++c)
        for (int h = 0; h < map.h; ++h)
          for (int w = 0; w < map.w; ++w)
            values[((static_cast<size_t>(n) * map.h + h) * map.w + w) * stored + c] = static_cast<float>(map.at(n, c, h, w));
    return values;
  }

  static DeviceBuffer ToDevice(const Libraries& libraries, const std::vector<float>& values, DataType type) {
    DeviceBuffer buffer(values.size() * static_cast<size_t>(SizeOf(type)));
    std::vector<uint16_t> shorts;
    if (type == DataType::kBf16) {
      for (const float value : values) {
        uint32_t bits = 0;
        const float rounded = RoundToBf16(value);
        std::memcpy(&bits, &rounded, sizeof(bits));
        shorts.push_back(static_cast<uint16_t>(bits >> 16));
      }
    }
    const void* host = type == DataType::kBf16 ? static_cast<const void*>(shorts.data()) : values.data();
    const cudaStream_t stream = const_cast<Libraries&>(libraries).stream().get();
    CopyToDevice(buffer.data(), host, buffer.bytes(), stream);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    return buffer;
  }
  static DeviceBuffer ToDevice(const Libraries& libraries, const reference::Map& map, int stored) {
    return ToDevice(libraries, Nhwc(map, stored), libraries.map_type());
  }

  static std::vector<float> FromDevice(Libraries& libraries, const DeviceBuffer& buffer, DataType type) {
    const size_t count = buffer.bytes() / static_cast<size_t>(SizeOf(type));
    std::vector<float> values(count);
    std::vector<uint16_t> shorts(type == DataType::kBf16 ? count : 0);
    void* host = type == DataType::kBf16 ? static_cast<void*>(shorts.data()) : values.data();
    CopyToHost(host, buffer.data(), buffer.bytes(), libraries.stream().get());
    libraries.stream().Wait();
    for (size_t i = 0; i < shorts.size(); ++i) {
      const uint32_t bits = uint32_t{shorts[i]} << 16;
      std::memcpy(&values[i], &bits, sizeof(bits));
    }
    return values;
  }

  // Against a reference map in the same layout; what is stored behind its channels must be zero.
  static void ExpectNear(const std::vector<float>& actual, const reference::Map& expected, int stored, double tolerance,
                         const std::string& what) {
    const std::vector<float> wanted = Nhwc(expected, stored);
    ASSERT_EQ(actual.size(), wanted.size()) << what;
    double difference = 0, size = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (static_cast<int>(i % static_cast<size_t>(stored)) >= expected.c) {
        ASSERT_EQ(actual[i], 0) << what << ": padding at " << i;
        continue;
      }
      difference += std::pow(double{actual[i]} - wanted[i], 2);
      size += std::pow(wanted[i], 2);
    }
    EXPECT_LE(std::sqrt(difference), tolerance * std::sqrt(size)) << what;
    EXPECT_GT(size, 0) << what;
  }

  RandomStream random_{7, RandomPurpose::kSynthetic, 0, 0};
};

}  // namespace plateau::cuda
