// From a pipeline's document to its jobs: defaults, overrides, scaling, references, and every refusal.
#include "coordinator/pipeline/expand.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace plateau::test {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

json Document() {
  return json::parse(R"({"version": 1, "kind": "pipeline", "name": "paper", "output": "/runs",
    "model": {"width": 0.5}, "data": {"store": "/store", "train_scale": 256, "crop": 224}, "training": {"max_epochs": 7},
    "evaluate": {"posteriors": true}, "resources": {"workers": 2},
    "jobs": {
      "b": {"model": {"network": "vgg-b", "init_from": {"job": "z", "layers": "vgg-first4-fc3"}}, "lr": {"initial": 0.001}},
      "z": {"model": {"network": "vgg-a"}, "resources": {"workers": 1}, "report": {"baseline": true}},
      "jitter": {"model": {"network": "vgg-b", "init_from": {"job": "b"}}, "data": {"train_scale": [256, 512]}},
      "test-b": {"kind": "evaluate", "evaluate": {"job": "b", "scales": [224, 256, 288]}, "report": {"table": 4, "row": ["B", "256"]}},
      "test-z": {"kind": "evaluate", "evaluate": {"job": "z", "scales": [256]}, "depends_on": [{"job": "test-b", "condition": "ended"}]}
    },
    "fusions": {"both": {"of": ["test-b", "test-z"], "report": {"table": 6, "row": "B+A"}}}})");
}

std::string ErrorOf(const json& document) {
  const auto plan = ExpandPipeline(document, "body", false);
  return plan ? std::string("accepted") : plan.error().message;
}

const JobSpec& SpecOf(const PipelinePlan& plan, const std::string& name) {
  for (const auto& job : plan.jobs)
    if (job.name == name) return job.spec;
  ADD_FAILURE() << name;
  return plan.jobs.front().spec;
}

TEST(ExpandPipeline, DefaultsReachEveryJobOfTheirKindAndOwnFieldsWin) {
  const auto plan = ExpandPipeline(Document(), "body", false);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  std::vector<std::string> order;
  for (const auto& job : plan->jobs) order.push_back(job.name);
  EXPECT_THAT(order, ElementsAre("z", "b", "jitter", "test-b", "test-z")) << "what others wait for comes first";
  EXPECT_EQ(SpecOf(*plan, "b").model.width, 0.5);
  EXPECT_EQ(SpecOf(*plan, "b").training.max_epochs, 7);
  EXPECT_EQ(SpecOf(*plan, "b").lr.initial, 0.001);
  EXPECT_EQ(SpecOf(*plan, "z").lr.initial, 0.01);
  EXPECT_EQ(SpecOf(*plan, "test-b").evaluate.store, "/store") << "data.store unless it has its own";
  EXPECT_TRUE(SpecOf(*plan, "test-b").evaluate.posteriors);
  EXPECT_EQ(SpecOf(*plan, "test-b").resources.workers, 2);
}

TEST(ExpandPipeline, TheScaleFactorReachesEverySize) {
  json document = Document();
  document["scale_factor"] = "1/7";
  const auto plan = ExpandPipeline(document, "body", false);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_EQ(SpecOf(*plan, "z").data.crop, 32);
  EXPECT_EQ(SpecOf(*plan, "z").data.train_scale_low, 37);
  EXPECT_EQ(SpecOf(*plan, "z").validation.scale, 37) << "follows the training scale";
  EXPECT_EQ(SpecOf(*plan, "jitter").data.train_scale_low, 37);
  EXPECT_EQ(SpecOf(*plan, "jitter").data.train_scale_high, 73);
  EXPECT_THAT(SpecOf(*plan, "test-b").evaluate.scales, ElementsAre(32, 37, 41));
  document["data"].erase("crop");
  document["data"].erase("train_scale");
  EXPECT_EQ(ExpandPipeline(document, "body", false)->jobs.front().spec.data.crop, 32)
      << "the paper's sizes are scaled where none are given";
  for (const json& bad : {json("1/0"), json("x/7"), json("7"), json(0), json(-1), json("1/7/2")}) {
    document["scale_factor"] = bad;
    EXPECT_THAT(ErrorOf(document), HasSubstr("scale_factor")) << bad;
  }
}

TEST(ExpandPipeline, UnknownNamesAreRefusedWithTheNearest) {
  json document = Document();
  document["jobs"]["b"]["model"]["init_from"]["job"] = "y";
  EXPECT_THAT(ErrorOf(document), HasSubstr("body: jobs.b: model.init_from.job: there is no job \"y\" in this pipeline"));
  document = Document();
  document["jobs"]["test-b"]["evaluate"]["job"] = "jiter";
  EXPECT_THAT(ErrorOf(document),
              HasSubstr("jobs.test-b: evaluate.job: there is no job \"jiter\" in this pipeline, did you mean \"jitter\"?"));
  document = Document();
  document["jobs"]["z"]["depends_on"] = {"test_b"};
  EXPECT_THAT(ErrorOf(document),
              HasSubstr("jobs.z: depends_on: there is no job \"test_b\" in this pipeline, did you mean \"test-b\"?"));
  document = Document();
  document["fusions"]["both"]["of"] = {"test-b", "test-q"};
  EXPECT_THAT(ErrorOf(document), HasSubstr("fusions.both: of: there is no job \"test-q\""));
  document = Document();
  document["fusions"]["both"]["of"] = {"test-b", "test-z", "test-b"};
  EXPECT_THAT(ErrorOf(document), HasSubstr("fusions.both: of: \"test-b\" stands twice"));
  document = Document();
  document["trainning"] = json::object();
  EXPECT_THAT(ErrorOf(document), HasSubstr("did you mean \"training\"?"));
  document = Document();
  document["training"]["max_epoch"] = 3;
  EXPECT_THAT(ErrorOf(document), HasSubstr("unknown field \"training.max_epoch\"; did you mean \"training.max_epochs\"?"));
  document = Document();
  document["jobs"]["b"]["knd"] = "train";
  EXPECT_THAT(ErrorOf(document), HasSubstr("body: jobs.b: unknown field \"knd\"; did you mean \"kind\"?"));
}

TEST(ExpandPipeline, WhatCannotGiveACheckpointOrABaselineIsRefused) {
  json document = Document();
  document["jobs"]["test-z"]["evaluate"]["job"] = "test-b";
  document["jobs"]["test-z"].erase("depends_on");
  EXPECT_THAT(ErrorOf(document), HasSubstr("jobs.test-z: evaluate.job: test-b is an evaluation and has no checkpoint"));
  document = Document();
  document["jobs"]["b"]["model"]["init_from"]["job"] = "test-z";
  EXPECT_THAT(ErrorOf(document), HasSubstr("jobs.b: model.init_from.job: test-z is an evaluation"));
  document = Document();
  document["jobs"]["z"]["report"] = {{"baseline", true}};
  document["jobs"]["z"]["resources"]["workers"] = 2;
  EXPECT_THAT(ErrorOf(document), HasSubstr("jobs.z: report.baseline: a baseline of speed is a training by one worker"));
}

TEST(ExpandPipeline, ACircleIsRefusedByName) {
  json document = Document();
  document["jobs"]["z"]["model"]["init_from"] = {{"job", "jitter"}};
  const std::string error = ErrorOf(document);
  EXPECT_THAT(error, HasSubstr("it waits for itself: b -> z -> jitter -> b"));
  document = Document();
  document["jobs"]["z"]["depends_on"] = {"z"};
  EXPECT_THAT(ErrorOf(document), HasSubstr("jobs.z: depends_on: it waits for itself: z -> z"));
}

TEST(ExpandPipeline, WhatCannotBeIsRefused) {
  json document = Document();
  document["jobs"] = json::object();
  EXPECT_THAT(ErrorOf(document), HasSubstr("jobs: "));
  document = Document();
  document["jobs"]["a.b"] = document["jobs"]["z"];
  EXPECT_THAT(ErrorOf(document), HasSubstr("\"a.b\" is no name of a job"));
  document = Document();
  document["jobs"]["z"]["data"]["store"] = "store";
  EXPECT_THAT(ErrorOf(document), HasSubstr("jobs.z: data.store: \"store\" is not an absolute path"));
  document = Document();
  document["jobs"]["test-z"]["evaluate"]["posteriors"] = false;
  EXPECT_THAT(ErrorOf(document), HasSubstr("fusions.both: of: test-z keeps no posteriors"));
  document = Document();
  document["jobs"]["z"]["report"] = {{"table", 3}};
  EXPECT_THAT(ErrorOf(document), HasSubstr("table and row go together"));
  document = Document();
  document["data"]["normalize"] = "mean";
  EXPECT_THAT(ErrorOf(document), HasSubstr("training.init: he with data.normalize: mean diverges"));
  EXPECT_TRUE(ExpandPipeline(document, "body", true).has_value());
}

TEST(Pipeline, ItsJobsReferToEachOtherById) {
  const auto plan = ExpandPipeline(Document(), "body", false);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  const PipelineInstance instance = Instantiate(*plan, "paper-3", 1'000);
  EXPECT_EQ(instance.specs[1]->name, "paper-3.b");
  EXPECT_EQ(instance.specs[1]->model.init_from->job, "paper-3.z");
  EXPECT_EQ(instance.specs[4]->evaluate.job, "paper-3.z");
  EXPECT_EQ(instance.specs[4]->depends_on.front().job, "paper-3.test-b");
  EXPECT_THAT(instance.pipeline.fusions.front().of, ElementsAre("paper-3.test-b", "paper-3.test-z"));
  const auto again = ParsePipelineRecord(PipelineRecordText(instance.pipeline));
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(PipelineRecordText(*again), PipelineRecordText(instance.pipeline));
  EXPECT_EQ(again->jobs[3].report, R"({"row":["B","256"],"table":4})");
  EXPECT_FALSE(ParsePipelineRecord("{}").has_value());
}

TEST(Pipeline, ItsStateFollowsFromItsJobs) {
  const auto state = [](std::vector<std::pair<JobState, const char*>> jobs) {
    std::vector<std::shared_ptr<const Job>> all;
    for (const auto& [one, reason] : jobs) {
      Job job;
      job.state = one;
      job.reason = reason;
      if (one != JobState::kQueued && one != JobState::kHeld) job.attempts.emplace_back();
      all.push_back(std::make_shared<const Job>(job));
    }
    return PipelineStateName(all);
  };
  using enum JobState;
  EXPECT_EQ(state({{kQueued, "SUBMITTED"}, {kQueued, "WAITING_FOR_JOBS"}}), "QUEUED");
  EXPECT_EQ(state({{kRunning, ""}, {kFailed, ""}, {kQueued, "WAITING_FOR_JOBS"}}), "RUNNING");
  EXPECT_EQ(state({{kCompleted, ""}, {kQueued, "RELEASED"}}), "RUNNING");
  EXPECT_EQ(state({{kCompleted, ""}, {kFailed, ""}, {kHeld, "DEPENDENCY_FAILED"}}), "FAILED");
  EXPECT_EQ(state({{kFailed, ""}, {kQueued, "WAITING_FOR_JOBS"}}), "RUNNING") << "it is released, or held, within the turn";
  EXPECT_EQ(state({{kCancelled, ""}, {kQueued, "WAITING_FOR_JOBS"}}), "RUNNING");
  EXPECT_EQ(state({{kPaused, ""}, {kQueued, "WAITING_FOR_JOBS"}}), "PAUSED");
  EXPECT_EQ(state({{kFailed, ""}, {kPaused, ""}, {kQueued, "WAITING_FOR_JOBS"}}), "FAILED");
  EXPECT_EQ(state({{kCompleted, ""}, {kHeld, "TOO_LARGE"}, {kQueued, "WAITING_FOR_JOBS"}}), "HELD");
  EXPECT_EQ(state({{kFailed, ""}, {kHeld, "TOO_LARGE"}}), "FAILED");
  EXPECT_EQ(state({{kCompleted, ""}, {kCancelled, ""}}), "CANCELLED");
  EXPECT_EQ(state({{kCompleted, ""}, {kCompleted, ""}}), "COMPLETED");
  EXPECT_EQ(state({{kCompleted, ""}, {kCancelled, "NOT_NEEDED"}}), "COMPLETED");
  EXPECT_EQ(state({{kCompleted, ""}, {kCancelled, "NOT_NEEDED"}, {kHeld, "TOO_LARGE"}}), "HELD");
}

}  // namespace
}  // namespace plateau::test
