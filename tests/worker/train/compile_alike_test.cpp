// Ranks that compile with rank 0's choices: nothing is timed elsewhere, what cannot be built names itself, and all hear of it.
#include "worker/train/compile_alike.h"

#include <array>
#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"
#include "tests/support/thread_collective.h"
#include "worker/train/choices_files.h"

namespace plateau {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr int kRanks = 3;

class CompilingAlike : public ::testing::Test {
 protected:
  CompilingAlike() {
    if (const char* was = std::getenv("XDG_CACHE_HOME"); was != nullptr) cache_was_ = was;
    setenv("XDG_CACHE_HOME", folder_.path().c_str(), 1);
  }
  ~CompilingAlike() override {
    if (cache_was_.empty())
      unsetenv("XDG_CACHE_HOME");
    else
      setenv("XDG_CACHE_HOME", cache_was_.c_str(), 1);
  }

  struct Rank {
    std::unique_ptr<RecordedChoices> choices;
    std::string chosen, error;
    int timed = 0;
  };
  // Each rank wants an algorithm for "conv1_1 forward"; `broken` cannot build any on record.
  std::array<Rank, kRanks> Compile(int broken = -1) {
    std::array<Rank, kRanks> ranks;
    test::RunThreadRanks(kRanks, [&](Collective& collective) {
      Rank& rank = ranks[static_cast<size_t>(collective.rank())];
      PosixFileSystem files;
      rank.choices = OpenChoices(files, collective.rank(), {}, RecordedChoices::Use::kTraining);
      const auto time = [&] {
        ++rank.timed;
        return fmt::format("timed by rank {}", collective.rank());
      };
      const auto compile = [&]() -> Status {
        try {
          rank.chosen = rank.choices->Choose("conv1_1 forward", time);
          if (collective.rank() == broken)
            rank.chosen = rank.choices->Replace(
                {"conv1_1 forward", "batch 8", rank.chosen, {ErrorCode::kUnsupported, "for another chip"}}, time);
          return {};
        } catch (const Failure& failure) {
          return Fail(failure.code(), "{}", failure.what());
        }
      };
      const Status done = CompileAlike(files, rank.choices.get(), collective, compile);
      if (!done) rank.error = done.error().message;
    });
    return ranks;
  }

  test::TempFolder folder_;
  std::string cache_was_;
};

TEST_F(CompilingAlike, RankZeroTimesAndTheFileKeepsItForTheNextRun) {
  const auto ranks = Compile();
  for (const Rank& rank : ranks) {
    EXPECT_EQ(rank.error, "");
    EXPECT_EQ(rank.chosen, "timed by rank 0");
    EXPECT_EQ(rank.choices->all(), ranks[0].choices->all());
  }
  EXPECT_EQ(ranks[0].timed, 1);
  EXPECT_EQ(ranks[1].timed + ranks[2].timed, 0);
  for (const Rank& rank : Compile()) {
    EXPECT_EQ(rank.chosen, "timed by rank 0");
    EXPECT_EQ(rank.timed, 0) << "from the file";
  }
}

TEST_F(CompilingAlike, WhatRankZeroReplacesStandsInItsTableAndInTheFile) {
  PosixFileSystem files;
  ASSERT_TRUE(AddToChoicesCache(files, ChoicesCachePath(), {{"conv1_1 forward", "stale"}}));
  for (const Rank& rank : Compile(0)) {
    EXPECT_EQ(rank.error, "");
    EXPECT_EQ(rank.chosen, "timed by rank 0");
  }
  EXPECT_THAT(ReadChoicesCache(files, ChoicesCachePath()), ElementsAre(Pair("conv1_1 forward", "timed by rank 0")));
}

TEST_F(CompilingAlike, ARankThatCannotBuildRankZerosChoiceEndsAllWithItsReason) {
  const auto ranks = Compile(2);
  for (const Rank& rank : ranks)
    EXPECT_THAT(rank.error,
                AllOf(HasSubstr("rank 2: \"conv1_1 forward\""), HasSubstr("timed by rank 0"), HasSubstr("for another chip")));
  EXPECT_EQ(ranks[2].timed, 0);
}

TEST_F(CompilingAlike, WithoutChoicesAllCompileAndOneFaultIsEverybodys) {
  std::array<std::string, kRanks> errors;
  test::RunThreadRanks(kRanks, [&](Collective& collective) {
    PosixFileSystem files;
    const Status done = CompileAlike(files, nullptr, collective, [&]() -> Status {
      if (collective.rank() == 1) return Fail(ErrorCode::kUnavailable, "out of memory");
      return {};
    });
    if (!done) errors[static_cast<size_t>(collective.rank())] = done.error().message;
  });
  for (const std::string& error : errors) EXPECT_EQ(error, "rank 1: out of memory");
}

}  // namespace
}  // namespace plateau
