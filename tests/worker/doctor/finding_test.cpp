// Examinations are printed by section, with what is wrong, and survive the way through JSON to rank 0.
#include "worker/doctor/finding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace plateau {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::vector<Examination> TwoRanks() {
  return {{0, "n1", 11, {{"Build", "plateau", Health::kInfo, "0.1.0"}, {"Limits", "open files", Health::kNote, "64"}, {"Checks", "all-reduce", Health::kGood, "right"}}},
          {1, "n2", 12, {{"Build", "plateau", Health::kInfo, "0.1.0"}, {"Checks", "device", Health::kInfo, "GPU 1"}, {"Checks", "all-reduce", Health::kBad, "3 sums are wrong"}}}};
}

TEST(Finding, WhatFailsMakesTheWholeFail) {
  const auto json = ExaminationsToJson(TwoRanks());
  EXPECT_EQ(json["ok"], false);
  EXPECT_EQ(json["ranks"][0]["ok"], true);
  EXPECT_EQ(json["ranks"][1]["ok"], false);
  EXPECT_EQ(json["ranks"][1]["findings"][2]["health"], "bad");
  EXPECT_EQ(ExaminationsToJson({TwoRanks()[0]})["ok"], true);
}

TEST(Finding, TheWayThroughJsonKeepsEverything) {
  for (const Examination& rank : TwoRanks()) {
    const Examination back = ExaminationFromJson(ExaminationToJson(rank));
    EXPECT_EQ(ExaminationToJson(back).dump(), ExaminationToJson(rank).dump());
    EXPECT_EQ(back.findings[1].health, rank.findings[1].health);
  }
}

TEST(Finding, RankZeroIsPrintedInFullAndOfOthersWhatIsNotRight) {
  const std::string text = ExaminationsText(TwoRanks(), false);
  EXPECT_THAT(text, HasSubstr("Build\n        plateau     0.1.0\n"));
  EXPECT_THAT(text, HasSubstr("\nLimits\n  note  open files  64\n"));
  EXPECT_THAT(text, HasSubstr("  ok    all-reduce  right\n"));
  EXPECT_THAT(text, HasSubstr("\nrank 1 on n2: not well\n        device      GPU 1\n  FAIL  all-reduce  3 sums are wrong\n"));
  EXPECT_THAT(text, HasSubstr("1 of 2 ranks found something that fails"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(ExaminationsText(TwoRanks(), true), HasSubstr("\x1b[1;31mFAIL\x1b[0m"));
  EXPECT_THAT(ExaminationsText({TwoRanks()[0]}, false), HasSubstr("all that is there works"));
}

// Eight ranks on two hosts with two devices each say four things, not eight.
TEST(Finding, ADeviceIsNamedOnceForAllItsRanksAndANoteOfAHostOnce) {
  std::vector<Examination> ranks;
  for (int rank = 0; rank < 8; ++rank)
    ranks.push_back(
        {rank,
         rank < 4 ? "n1" : "n2",
         rank,
         {{"Limits", "open files", Health::kNote, "64"}, {"Checks", "device", Health::kInfo, rank % 2 == 0 ? "GPU 0" : "GPU 1"}}});
  const std::string text = ExaminationsText(ranks, false);
  EXPECT_THAT(text, HasSubstr("\nrank 2 on n1: as rank 0\n\n")) << "nothing that rank 0 has not said";
  EXPECT_THAT(text, HasSubstr("\nranks 1, 3 on n1: as rank 0\n        device      GPU 1\n\n"));
  EXPECT_THAT(text, HasSubstr("\nranks 4, 6 on n2: as rank 0\n  note  open files  64\n        device      GPU 0\n"));
  EXPECT_THAT(text, HasSubstr("\nranks 5, 7 on n2: as rank 0\n  note  open files  64\n        device      GPU 1\n"));
}

TEST(Finding, AFaultIsSaidAgainForEveryRankThatHasIt) {
  auto ranks = TwoRanks();
  ranks[0].findings[2] = ranks[1].findings[2];
  ranks[1].host = "n1";
  EXPECT_THAT(ExaminationsText(ranks, false),
              HasSubstr("\nrank 1 on n1: not well\n        device      GPU 1\n  FAIL  all-reduce  3 sums are wrong\n"));
}

}  // namespace
}  // namespace plateau
