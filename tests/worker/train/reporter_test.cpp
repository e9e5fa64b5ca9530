// What rank 0 reports of training, on a clock that the test turns.
#include "worker/train/reporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace plateau {
namespace {

class NotingAuthority final : public Authority {
 public:
  Result<LrOutcome> Decide(const ValidationReport&, double, const LrState&) override {
    return Fail(ErrorCode::kInternal, "not asked");
  }
  int64_t CheckpointOrder() const override { return 0; }
  Status Publish(const WrittenCheckpoint&, const CheckpointState&, bool, int64_t) override { return {}; }
  void Report(const Metrics& metrics) override { reported.push_back(metrics); }
  Status Finish(const Finished&) override { return {}; }
  std::vector<Metrics> reported;
};

TEST(Reporter, ValidationsThatComeOftenDoNotSilenceTheCurve) {
  const test::TempFolder folder;
  ManualClock clock(1'000);
  NotingAuthority authority;
  Reporter reporter(
      {.metrics_path = folder.path() + "/metrics.jsonl", .total_steps = 1'000, .images_per_epoch = 40, .global_batch = 10}, clock,
      authority);
  for (int step = 1; step <= 40; ++step) {  // 100 ms a step, and every fourth a validation of 5 s
    clock.AdvanceMs(100);
    reporter.Step(step, 0.01, {.loss = 20, .images = 10}, 0.01);
    if (step % 4 != 0) continue;
    clock.AdvanceMs(5'000);
    reporter.Validation({}, 5);
  }
  ASSERT_EQ(authority.reported.size(), 4u) << "one a second of training";
  for (const auto& metrics : authority.reported) {
    EXPECT_DOUBLE_EQ(metrics.images_per_s, 100) << "the passes are no training time";
    EXPECT_DOUBLE_EQ(metrics.loss, 2);
  }
  EXPECT_EQ(authority.reported.back().step, 40);
}

}  // namespace
}  // namespace plateau
