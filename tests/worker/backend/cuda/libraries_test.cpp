// The device and its libraries: what they call themselves, what they refuse, and scratch memory.
#include "worker/backend/cuda/libraries.h"

#include <algorithm>

#include "common/error.h"
#include "tests/worker/backend/cuda/op_fixture.h"

namespace plateau::cuda {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

class LibrariesTest : public OpTest {
 protected:
  RecordedChoices choices_;
};

TEST_F(LibrariesTest, NamesOfDeviceAndVersionsForKeysAndReports) {
  const Libraries libraries(0, Precision::kBf16, true, choices_);
  cudaDeviceProp properties{};
  ASSERT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  EXPECT_EQ(libraries.device_name(), fmt::format("{}, sm_{}{}", properties.name, properties.major, properties.minor));
  EXPECT_THAT(libraries.versions(),
              MatchesRegex("CUDA [0-9]+\\.[0-9]+, cuDNN 9\\.[0-9]+\\.[0-9]+, cuBLASLt [0-9]+\\.[0-9]+\\.[0-9]+"));
  EXPECT_THAT(libraries.versions(), HasSubstr(libraries.cudnn_version() + ", " + libraries.cublas_version()));
  EXPECT_EQ(libraries.map_type(), DataType::kBf16);
  EXPECT_EQ(Libraries(0, Precision::kTf32, true, choices_).map_type(), DataType::kFloat);
}

TEST_F(LibrariesTest, DeviceThatIsNotThereIsRefusedWithWhatIs) {
  int count = 0;
  ASSERT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  for (const int device : {count, -1}) {
    try {
      Libraries libraries(device, Precision::kFp32, true, choices_);
      ADD_FAILURE() << "opened device " << device;
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.code(), ErrorCode::kUnsupported);
      EXPECT_THAT(failure.what(), HasSubstr(fmt::format("CUDA device {} is not there: this process sees {}", device, count)));
      EXPECT_THAT(failure.what(), HasSubstr("CUDA_VISIBLE_DEVICES"));
    }
  }
}

TEST_F(LibrariesTest, ScratchGrowsIsFilledAnewAndGoes) {
  Libraries libraries(0, Precision::kFp32, true, choices_);
  size_t free_before = 0, free_after = 0, total = 0;
  void* small = libraries.TimingScratch(1000);
  ASSERT_NE(small, nullptr);
  EXPECT_EQ(libraries.TimingScratch(10), small);
  const size_t bytes = size_t{8} << 20;
  void* large = libraries.TimingScratch(bytes);
  for (const int turn : {1, 2}) {
    std::vector<float> values(bytes / sizeof(float));
    CopyToHost(values.data(), large, bytes, libraries.stream().get());
    libraries.stream().Wait();
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    EXPECT_TRUE(*least > 0.01f && *most < 0.02f) << "time " << turn << ": from " << *least << " to " << *most;
    ASSERT_EQ(cudaMemsetAsync(large, 0xff, bytes, libraries.stream().get()), cudaSuccess);  // NaN
    large = libraries.TimingScratch(bytes);
  }
  ASSERT_EQ(cudaMemGetInfo(&free_before, &total), cudaSuccess);
  libraries.ReleaseScratch();
  ASSERT_EQ(cudaMemGetInfo(&free_after, &total), cudaSuccess);
  EXPECT_GE(free_after, free_before + bytes);
}

TEST_F(LibrariesTest, ScratchBeyondTheDevicesMemoryIsUnavailableAndLeavesTheRestUsable) {
  Libraries libraries(0, Precision::kFp32, true, choices_);
  try {
    libraries.TimingScratch(size_t{1} << 50);
    ADD_FAILURE() << "a petabyte was there";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.code(), ErrorCode::kUnavailable);
    EXPECT_THAT(failure.what(), HasSubstr("cudaMalloc of 1125899906842624 bytes"));
  }
  EXPECT_NE(libraries.TimingScratch(1000), nullptr);
}

TEST_F(LibrariesTest, TimedOnceAsksOnceForAKey) {
  Libraries libraries(0, Precision::kFp32, true, choices_);
  int asked = 0;
  const auto time = [&] { return fmt::format("engine {}", ++asked); };
  EXPECT_EQ(libraries.TimedOnce("a", time), "engine 1");
  EXPECT_EQ(libraries.TimedOnce("a", time), "engine 1");
  EXPECT_EQ(libraries.TimedOnce("b", time), "engine 2");
}

}  // namespace
}  // namespace plateau::cuda
