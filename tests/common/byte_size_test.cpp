// Sizes of memory as people write them.
#include "common/byte_size.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace plateau {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kGiB = uint64_t{1} << 30;

TEST(ByteSize, ANumberAloneCountsTheUnit) {
  EXPECT_EQ(*ParseByteSize("80", "GiB", "--memory"), 80 * kGiB);
  EXPECT_EQ(*ParseByteSize("0.5", "GiB", "--memory"), kGiB / 2);
  EXPECT_EQ(*ParseByteSize("3", "MiB", "--memory"), uint64_t{3} << 20);
}

TEST(ByteSize, UnitsOf1024AndOf1000AreTold) {
  for (const char* text : {"80GiB", "80 GiB", "80gib", "81920MiB", "0.078125TiB"})
    EXPECT_EQ(*ParseByteSize(text, "B", "f"), 80 * kGiB) << text;
  for (const char* text : {"80GB", "80 GB", "80  gb", "80000MB", "0.08TB", "80e9"})
    EXPECT_EQ(*ParseByteSize(text, "B", "f"), 80'000'000'000u) << text;
}

TEST(ByteSize, WhatIsNoSizeIsRefusedNamingFieldAndExamples) {
  for (const char* text : {"", "nan", "inf", "0", "-4", "0GiB", "80 apples", "GiB", "80Gi B", "1e30", "80GiB!", "0.1B"}) {
    const auto refused = ParseByteSize(text, "GiB", "--memory");
    ASSERT_FALSE(refused.has_value()) << text;
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidInput);
    EXPECT_THAT(refused.error().message, HasSubstr(fmt::format("--memory {}: not a size", *text == 0 ? "\"\"" : text)));
    EXPECT_THAT(refused.error().message, HasSubstr("80GiB"));
  }
}

}  // namespace
}  // namespace plateau
