// Texts about GPUs: a host's report, an offer by hand, a launch's grant.
#include "common/gpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace plateau {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> Ids(const std::vector<Gpu>& gpus) {
  std::vector<std::string> ids;
  for (const Gpu& gpu : gpus) ids.push_back(gpu.id);
  return ids;
}

const std::vector<Gpu> kTold{{"4", "NVIDIA H200", 150'000'000'000}, {"7", "NVIDIA H200", 150'000'000'000}};

TEST(GpuReport, IsFoundAmongOtherLines) {
  const std::string line = GpuReportLine({kTold, ""});
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const auto report = FindGpuReport("# CPU cores\n0,0\na library's chatter\n" + line + "\nlast words\n");
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->gpus, kTold);
  const auto none = FindGpuReport(GpuReportLine({{}, "no CUDA driver"}));
  ASSERT_TRUE(none.has_value());
  EXPECT_EQ(none->reason, "no CUDA driver");
}

TEST(GpuReport, AnythingElseIsNoReport) {
  for (const char* text : {"", "0,0\n1,0", "{\"plateau_gpus\":2,\"gpus\":[],\"reason\":\"\"}",
                           "{\"plateau_gpus\":1,\"gpus\":[{}],\"reason\":\"\"}", "{\"plateau_gpus\":1,"})
    EXPECT_FALSE(FindGpuReport(text).has_value()) << text;
}

TEST(VisibleGpuIds, FollowTheListOfTheProcess) {
  EXPECT_THAT(VisibleGpuIds(3, nullptr), ElementsAre("0", "1", "2"));
  EXPECT_THAT(VisibleGpuIds(2, "5,GPU-8f3a"), ElementsAre("5", "GPU-8f3a"));
  EXPECT_THAT(VisibleGpuIds(1, "5,99"), ElementsAre("5")) << "CUDA stops at the first that is not there";
  EXPECT_THAT(VisibleGpuIds(0, ""), IsEmpty());
}

TEST(GpuOffer, TakesACountAListOrEverything) {
  EXPECT_EQ(OfferedGpus("", kTold), kTold);
  EXPECT_EQ(OfferedGpus("1", kTold), std::vector<Gpu>{kTold[0]});
  EXPECT_EQ(OfferedGpus("7,", kTold), std::vector<Gpu>{kTold[1]});
  EXPECT_THAT(OfferedGpus("0", kTold), IsEmpty());
  EXPECT_THAT(Ids(OfferedGpus("0,3", {})), ElementsAre("0", "3")) << "what people say holds";
  EXPECT_THAT(Ids(OfferedGpus("4", kTold)), ElementsAre("4", "7", "0", "1"));
  EXPECT_THAT(Ids(OfferedGpus("4", {{"GPU-8f3a"}, {"7"}})), ElementsAre("GPU-8f3a", "7")) << "a number may be that GPU again";
}

TEST(GpuOffer, WhatMakesNoSenseIsRefusedWithTheFieldAndTheForms) {
  for (const char* good : {"", "0", "8", "0,3", "3,", "GPU-8f3a,GPU-11", "MIG-1/2/3,", "0, 1", "GPU-8f3a"})
    EXPECT_TRUE(CheckGpuOffer(good, "--gpus").has_value()) << good;
  for (const char* bad : {"-1", "9999", "all", "0,,1", ",", "0,0", "0;rm", "a b,", "GPU-1 2,"}) {
    const auto refused = CheckGpuOffer(bad, "--gpus");
    ASSERT_FALSE(refused.has_value()) << bad;
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidInput);
    EXPECT_THAT(refused.error().message, HasSubstr("--gpus: "));
    EXPECT_THAT(refused.error().message, HasSubstr("(0,3)"));
  }
}

TEST(GpuGrant, EachRankGetsItsOwn) {
  const std::string grant = GrantText({"0", "3", "0"});
  EXPECT_EQ(grant, "0,3,0");
  EXPECT_EQ(GrantOf(grant, 1).value(), "3");
  EXPECT_EQ(GrantOf(grant, 2).value(), "0");
  EXPECT_EQ(GrantOf(GrantText({}), 5).value(), "") << "the CPU: no rank sees any";
  for (const int rank : {-1, 3}) EXPECT_FALSE(GrantOf(grant, rank).has_value());
  EXPECT_FALSE(GrantOf("", 0).has_value());
  EXPECT_THAT(GrantOf(grant, 3).error().message, HasSubstr("rank 3"));
}

}  // namespace
}  // namespace plateau
