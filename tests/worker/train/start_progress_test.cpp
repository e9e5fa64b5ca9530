// A start shows in the pulse, speaks now and then, and hears a stop until the first step.
#include "worker/train/start_progress.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/log.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class StartProgressTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { InitLog(""); }
  StartProgress Make(bool speaks) { return {pulse_, stop_, clock_, {.speaks = speaks}}; }
  // What `act` writes to stderr.
  template <class Act>
  std::string Said(Act act) {
    ::testing::internal::CaptureStderr();
    act();
    return ::testing::internal::GetCapturedStderr();
  }
  Pulse pulse_;
  StopFlag stop_;
  ManualClock clock_{1'000'000};
};

TEST_F(StartProgressTest, EachStretchIsAPhaseOfTheStart) {
  StartProgress progress = Make(false);
  {
    const StartStretch stretch(&progress, "choosing algorithms", "layers", 3);
    EXPECT_STREQ(pulse_.phase.load(), "start: choosing algorithms");
    const int64_t before = pulse_.progress.load();
    stretch.Done(1);
    EXPECT_GT(pulse_.progress.load(), before) << "a start that moves is no hang";
  }
  EXPECT_STREQ(pulse_.phase.load(), "start");
  {
    const StartStretch joining(&progress, "joining NCCL");
    EXPECT_STREQ(pulse_.phase.load(), "start: joining NCCL");
  }
  pulse_.phase = "validate";
  { const StartStretch another(&progress, "choosing algorithms", "layers", 3); }
  EXPECT_STREQ(pulse_.phase.load(), "validate") << "a test that met images of another size goes on";
}

TEST_F(StartProgressTest, TheSpeakerSaysHowFarItIsEveryTwoSecondsAndNoMore) {
  StartProgress progress = Make(true);
  const std::string said = Said([&] {
    const StartStretch stretch(&progress, "choosing algorithms", "layers", 30);
    for (int layer = 0; layer <= 10; ++layer) {
      stretch.Done(layer);
      clock_.AdvanceMs(500);
    }
  });
  EXPECT_THAT(said, HasSubstr("choosing algorithms: 4/30 layers  ETA 13s"));
  EXPECT_THAT(said, HasSubstr("choosing algorithms: 8/30 layers  ETA 11s"));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 2) << said;
}

TEST_F(StartProgressTest, APieceThatTakesLongIsHeardOfAndAShortStartIsNot) {
  StartProgress progress = Make(true);
  const std::string said = Said([&] {
    const StartStretch stretch(&progress, "choosing algorithms", "layers", 30);
    for (int i = 0; i < 5; ++i) {
      stretch.GoOn();
      clock_.AdvanceMs(500);
    }
    stretch.GoOn();
  });
  EXPECT_THAT(said, HasSubstr("choosing algorithms: 0/30 layers in 2.0s"));
  EXPECT_THAT(Said([&] { const StartStretch stretch(&progress, "choosing algorithms", "layers", 30); }), IsEmpty());
  StartProgress silent = Make(false);
  EXPECT_THAT(Said([&] {
                const StartStretch stretch(&silent, "choosing algorithms", "layers", 30);
                clock_.AdvanceMs(5000);
                stretch.Done(3);
              }),
              IsEmpty());
}

TEST_F(StartProgressTest, AStopIsHeardUntilTheFirstStep) {
  StartProgress progress = Make(false);
  const StartStretch stretch(&progress, "joining NCCL");
  EXPECT_NO_THROW(stretch.GoOn());
  EXPECT_FALSE(progress.stopped());
  stop_.Raise();
  EXPECT_FALSE(progress.stopped()) << "nobody was told yet";
  EXPECT_THROW(stretch.GoOn(), StartStopped);
  EXPECT_TRUE(progress.stopped());

  StartProgress late = Make(false);
  late.Close();
  EXPECT_FALSE(late.WantsStop()) << "steps stop by themselves, with a checkpoint";
}

}  // namespace
}  // namespace plateau
