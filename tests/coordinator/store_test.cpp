// The state store: what goes in comes out, also after it was closed; keys are remembered; the curve stays bounded.
#include "coordinator/store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "coordinator/job/job_record.h"
#include "tests/support/jobs.h"
#include "tests/support/temp_folder.h"

namespace plateau::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<Store> OpenStore(const std::string& path, size_t max_points = kMaxCurvePoints) {
  auto store = Store::Open(path, max_points);
  EXPECT_TRUE(store.has_value()) << (store ? "" : store.error().message);
  return std::move(*store);
}

void WriteOutcome(Store& store, const Outcome& outcome) {
  const auto status = store.Write(
      {&outcome.job, outcome.events, outcome.validation.get(), outcome.point ? &*outcome.point : nullptr, nullptr, true});
  EXPECT_TRUE(status.has_value());
}

// Everything that is stored of a job, as text.
std::string Durable(const Job& job) {
  std::string text = JobRecordText(job);
  for (const auto& one : job.validations) text += DecidedValidationText(*one);
  return text;
}

TEST(Store, AJobComesBackAsItWas) {
  const TempFolder folder;
  JobUnderTest t;
  t.job = Job{.id = "small-1", .spec = t.job.spec};
  {
    auto store = OpenStore(folder.path() + "/db");
    WriteOutcome(*store, t.Tell(Submitted{}));
    WriteOutcome(*store, t.Tell(StartGranted{"secret", Here(2)}));
    t.Beat();
    WriteOutcome(*store, t.Say(0, Metrics{.step = 90, .epoch = 0.9, .loss = 2.25, .lr = 0.01, .images_per_s = 10}));
    WriteOutcome(*store, t.Say(0, Validation(1, 500)));
    WriteOutcome(*store, t.Say(0, Validation(2, 400)));
    const CheckpointReport report{.step = 200, .validation = 2, .metric = 0.6, .path = "attempt-1/step-000000200", .bytes = 5};
    const JobEvent verified = CheckpointVerified{1, report, "ab"};
    WriteOutcome(*store, t.Tell(verified));
    WriteOutcome(*store, t.Exit(137));
  }
  auto jobs = OpenStore(folder.path() + "/db")->LoadJobs();
  ASSERT_TRUE(jobs.has_value());
  ASSERT_EQ(jobs->size(), 1u);
  EXPECT_EQ(Durable((*jobs)[0]), Durable(t.job));
  EXPECT_EQ((*jobs)[0].lr, t.job.lr);
  EXPECT_EQ((*jobs)[0].checkpoints, t.job.checkpoints);
  EXPECT_EQ((*jobs)[0].validations[1]->decision, t.job.validations[1]->decision);
  EXPECT_TRUE((*jobs)[0].publish_pending);
}

TEST(Store, ALossThatIsNotFiniteSurvives) {
  const TempFolder folder;
  JobUnderTest t;
  t.Run();
  auto report = Validation(1, 500);
  report.loss = std::numeric_limits<double>::quiet_NaN();
  const auto outcome = t.Say(0, report);
  auto store = OpenStore(folder.path() + "/db");
  WriteOutcome(*store, outcome);
  auto jobs = store->LoadJobs();
  ASSERT_TRUE(jobs.has_value());
  EXPECT_TRUE(std::isnan((*jobs)[0].validations[0]->report.loss));
  EXPECT_EQ((*jobs)[0].lr, t.job.lr) << "the best of no value is infinite";
}

TEST(Store, EventsAreReadFromASequenceNumberOn) {
  const TempFolder folder;
  auto store = OpenStore(folder.path() + "/db");
  JobUnderTest t;
  t.job = Job{.id = "small-1", .spec = t.job.spec};
  Job other = t.job;
  other.id = "small-10";  // its rows stand right behind those of small-1
  for (int i = 0; i < 300; ++i) {
    for (Job* job : {&t.job, &other}) {
      const EventRow row{.seq = i + 1, .time_ms = 1, .type = "x", .message = job->id};
      ASSERT_TRUE(store->Write({job, std::span(&row, 1), nullptr, nullptr, nullptr, false}).has_value());
    }
  }
  const auto events = store->Events("small-1", 255, 1000);
  ASSERT_TRUE(events.has_value());
  ASSERT_EQ(events->size(), 45u);
  EXPECT_THAT(events->front(), HasSubstr("\"seq\":256"));
  EXPECT_THAT(events->front(), HasSubstr("\"message\":\"small-1\""));
  EXPECT_EQ(store->Events("small-1", 0, 7)->size(), 7u);
  EXPECT_TRUE(store->Events("small-1", 300, 7)->empty());
}

TEST(Store, IdempotencyKeysAreDurable) {
  const TempFolder folder;
  const JobUnderTest t;
  {
    const IdempotencyRecord key{"k/1", "small-1", "digest"};
    ASSERT_TRUE(OpenStore(folder.path() + "/db")->Write({&t.job, {}, nullptr, nullptr, &key, true}).has_value());
  }
  const auto store = OpenStore(folder.path() + "/db");
  const auto found = store->FindIdempotency("k/1");
  ASSERT_TRUE(found.has_value() && found->has_value());
  EXPECT_EQ((*found)->job, "small-1");
  EXPECT_EQ((*found)->digest, "digest");
  EXPECT_FALSE(store->FindIdempotency("k").value().has_value());
}

std::vector<int64_t> PointSteps(const Store& store, int64_t after = -1) {
  std::vector<int64_t> steps;
  const auto points = store.Points("small-1", after);
  for (const auto& text : *points) steps.push_back(nlohmann::json::parse(text).at("step"));
  return steps;
}

void WritePoint(Store& store, const Job& job, int64_t step) {
  const Curve point{.step = step};
  ASSERT_TRUE(store.Write({&job, {}, nullptr, &point, nullptr, false}).has_value());
}

TEST(Store, AResumedAttemptDrawsItsPartOfTheCurveAnew) {
  const TempFolder folder;
  auto store = OpenStore(folder.path() + "/db");
  const JobUnderTest t;
  for (const int64_t step : {10, 20, 30, 40}) WritePoint(*store, t.job, step);
  WritePoint(*store, t.job, 25);
  EXPECT_THAT(PointSteps(*store), ElementsAre(10, 20, 25));
  WritePoint(*store, t.job, 35);
  EXPECT_THAT(PointSteps(*store, 20), ElementsAre(25, 35));
}

TEST(Store, ALongCurveIsThinnedOutAndKeepsItsEnds) {
  const TempFolder folder;
  auto store = OpenStore(folder.path() + "/db", 100);
  const JobUnderTest t;
  for (int64_t step = 1; step <= 1'000; ++step) WritePoint(*store, t.job, step);
  const auto steps = PointSteps(*store);
  EXPECT_LE(steps.size(), 100u);
  EXPECT_GE(steps.size(), 50u);
  EXPECT_EQ(steps.front(), 1);
  EXPECT_EQ(steps.back(), 1'000);
}

TEST(Store, TwoCannotOpenTheSameFolder) {
  const TempFolder folder;
  const auto store = OpenStore(folder.path() + "/db");
  const auto second = Store::Open(folder.path() + "/db");
  ASSERT_FALSE(second.has_value());
  EXPECT_THAT(second.error().message, HasSubstr(folder.path()));
}

}  // namespace
}  // namespace plateau::test
