// The schema: the issue's example, defaults, round trip, and every kind of refusal with its message.
#include "common/job_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace plateau {
namespace {

using ::testing::HasSubstr;

constexpr const char* kExample = R"(
version: 1
kind: train
name: vgg-a-tiny
output: /shared/runs
model: {network: vgg-a, width: 0.5}
data: {store: /data/tin20, train_scale: 64, crop: 56, normalize: mean_std, augment: {flip: true, colour: true}}
training: {global_batch: 64, max_epochs: 60, momentum: 0.9, weight_decay: 5.0e-4, dropout: 0.5, init: he}
lr: {initial: 0.01, policy: plateau, metric: val_top1_error, factor: 0.1, patience: 2, threshold: 1.0e-3, cooldown: 0, max_decays: 3}
validation: {every: 1ep, scale: 64}
resources: {workers: 2, device: auto, threads_per_worker: 1, priority: 50}
checkpoint: {every: 1ep, keep_last: 2, keep_best: 1}
fault: {max_restarts: 5, hang_timeout: 120s}
reproducibility: {seed: 1, mode: exact}
)";

std::string Replace(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

std::string ErrorOf(const std::string& text) {
  const auto spec = ParseJobSpecText(text, "job.yaml");
  return spec ? std::string("accepted") : spec.error().message;
}

TEST(JobSpec, TheExampleParses) {
  const auto spec = ParseJobSpecText(kExample, "job.yaml");
  ASSERT_TRUE(spec) << spec.error().message;
  EXPECT_EQ(spec->model.network, "vgg-a");
  EXPECT_EQ(spec->data.train_scale_low, 64);
  EXPECT_EQ(spec->data.train_scale_high, 64);
  EXPECT_EQ(spec->lr.patience, 2);
  EXPECT_EQ(spec->checkpoint.every, (Interval{Interval::Unit::kEpochs, 1}));
  EXPECT_DOUBLE_EQ(spec->fault.hang_timeout_s, 120);
}

TEST(JobSpec, AWarmStartNamesItsSourceAndItsLayers) {
  const auto with = [](const std::string& from) {
    return Replace(kExample, "width: 0.5}", "width: 0.5, init_from: " + from + "}");
  };
  const auto spec = ParseJobSpecText(with("{job: vgg-a-7, layers: vgg-first4-fc3}"), "job.yaml");
  ASSERT_TRUE(spec) << spec.error().message;
  ASSERT_TRUE(spec->model.init_from);
  EXPECT_EQ(spec->model.init_from->job, "vgg-a-7");
  EXPECT_EQ(spec->model.init_from->layers, std::vector<std::string>{"vgg-first4-fc3"});
  EXPECT_EQ(spec->model.init_from->on_mismatch, "refuse");
  const auto listed = ParseJobSpecText(with("{checkpoint: /runs/a, layers: [conv1_1, fc6], on_mismatch: skip}"), "job.yaml");
  ASSERT_TRUE(listed) << listed.error().message;
  const auto again = ParseJobSpecJson(nlohmann::json(JobSpecToJson(*listed)), "again");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->model.init_from, listed->model.init_from);
  EXPECT_EQ(again->model.init_from->layers, (std::vector<std::string>{"conv1_1", "fc6"}));
  EXPECT_EQ(ParseJobSpecText(with("{checkpoint: runs/a}"), "job.yaml")->model.init_from->checkpoint.front(), '/');
  EXPECT_FALSE(ParseJobSpecText(kExample, "job.yaml")->model.init_from);

  EXPECT_THAT(ErrorOf(with("{layers: all}")), HasSubstr("model.init_from.job: give exactly one of job"));
  EXPECT_THAT(ErrorOf(with("{job: a, checkpoint: b}")), HasSubstr("model.init_from.job: give exactly one of job"));
  EXPECT_THAT(ErrorOf(with("{job: a, layers: []}")), HasSubstr("model.init_from.layers"));
  EXPECT_THAT(ErrorOf(with("{job: a, layers: [all, fc6]}")), HasSubstr("\"all\" stands for a group"));
  EXPECT_THAT(ErrorOf(with("{job: a, on_mismatch: ignore}")), HasSubstr("model.init_from.on_mismatch"));
  EXPECT_THAT(ErrorOf(with("{job: a, layer: fc6}")), HasSubstr("layers"));
}

TEST(JobSpec, TheFullFormGivesTheSameSpec) {
  const auto spec = ParseJobSpecText(Replace(Replace(kExample, "train_scale: 64", "train_scale: [64, 80]"), "init: he", "init: gaussian(0.02)"), "job.yaml");
  ASSERT_TRUE(spec) << spec.error().message;
  const auto full = JobSpecToJson(*spec);
  const auto again = ParseJobSpecJson(nlohmann::json(full), "again");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(JobSpecToJson(*again).dump(), full.dump());
  EXPECT_EQ(again->data.train_scale_high, 80);
  EXPECT_DOUBLE_EQ(again->training.init.sigma, 0.02);
}

TEST(JobSpec, MinWorkersIsAllWorkersUnlessGiven) {
  const auto fixed = ParseJobSpecText(Replace(kExample, "workers: 2", "workers: 4"), "job.yaml");
  ASSERT_TRUE(fixed) << fixed.error().message;
  EXPECT_EQ(fixed->resources.min_workers, 4);
  const auto elastic = ParseJobSpecText(Replace(kExample, "workers: 2", "workers: 4, min_workers: 3"), "job.yaml");
  ASSERT_TRUE(elastic) << elastic.error().message;
  EXPECT_EQ(elastic->resources.min_workers, 3);
  EXPECT_EQ(ParseJobSpecJson(nlohmann::json(JobSpecToJson(*elastic)), "again")->resources.min_workers, 3);
  EXPECT_THAT(ErrorOf(Replace(kExample, "workers: 2", "workers: 4, min_workers: 5")), HasSubstr("resources.min_workers: 5 is more than"));
  EXPECT_THAT(ErrorOf(Replace(kExample, "workers: 2", "workers: 4, min_workers: 0")), HasSubstr("resources.min_workers"));
}

TEST(JobSpec, UnknownFieldNamesTheNearest) {
  EXPECT_THAT(ErrorOf(Replace(kExample, "momentum", "momentun")), HasSubstr("job.yaml: unknown field \"training.momentun\"; did you mean \"training.momentum\"?"));
  EXPECT_THAT(ErrorOf(Replace(kExample, "fault:", "faults:")), HasSubstr("did you mean \"fault\"?"));
  EXPECT_THAT(ErrorOf(Replace(kExample, "flip: true", "flop: true")), HasSubstr("data.augment.flip"));
}

TEST(JobSpec, UnknownNetworkNamesTheNearest) {
  EXPECT_THAT(ErrorOf(Replace(kExample, "network: vgg-a", "network: vgga")), HasSubstr("did you mean vgg-a?"));
}

TEST(JobSpec, CropLargerThanScaleIsRefused) {
  EXPECT_THAT(ErrorOf(Replace(kExample, "crop: 56", "crop: 65")), HasSubstr("data.train_scale: 64 is smaller than the crop 65"));
  EXPECT_THAT(ErrorOf(Replace(kExample, "scale: 64}", "scale: 48}")), HasSubstr("validation.scale: 48 is smaller than data.crop 56"));
}

TEST(JobSpec, HeWithMeanIsRefusedUnlessForced) {
  const std::string text = Replace(kExample, "mean_std", "mean");
  EXPECT_THAT(ErrorOf(text), HasSubstr("diverges"));
  EXPECT_TRUE(ParseJobSpecText(text, "job.yaml", true));
  EXPECT_EQ(ErrorOf(Replace(text, "init: he", "init: gaussian(0.01)")), "accepted");
}

TEST(JobSpec, ValuesOutOfRangeNameFieldAndRange) {
  EXPECT_THAT(ErrorOf(Replace(kExample, "global_batch: 64", "global_batch: 0")), HasSubstr("training.global_batch: 0 is not a whole number from 1"));
  EXPECT_THAT(ErrorOf(Replace(kExample, "momentum: 0.9", "momentum: nine")), HasSubstr("training.momentum: \"nine\" is not a number"));
  EXPECT_THAT(ErrorOf(Replace(kExample, "every: 1ep, scale", "every: 1epoch, scale")), HasSubstr("validation.every"));
  EXPECT_THAT(ErrorOf(Replace(kExample, "hang_timeout: 120s", "hang_timeout: 120")), HasSubstr("fault.hang_timeout"));
  EXPECT_THAT(ErrorOf(Replace(kExample, "workers: 2", "workers: 65")), HasSubstr("cannot share a global batch of 64"));
  EXPECT_THAT(ErrorOf(Replace(kExample, "name: vgg-a-tiny", "name: a/b")), HasSubstr("is not a name"));
  EXPECT_THAT(ErrorOf(Replace(kExample, "version: 1", "version: 2")), HasSubstr("version"));
}

TEST(JobSpec, PrecisionAndCollectiveAreLeftToTheDeviceUnlessGiven) {
  const auto plain = ParseJobSpecText(kExample, "job.yaml");
  ASSERT_TRUE(plain) << plain.error().message;
  EXPECT_FALSE(plain->training.precision);
  EXPECT_EQ(plain->resources.collective, CollectiveKind::kAuto);
  EXPECT_EQ(JobSpecToJson(*plain)["training"]["precision"], "auto");
  EXPECT_EQ(JobSpecToJson(*plain)["resources"]["collective"], "auto");
  const std::string cuda = Replace(Replace(kExample, "init: he", "init: he, precision: bf16"), "device: auto", "device: cuda, collective: nccl");
  const auto given = ParseJobSpecText(cuda, "job.yaml");
  ASSERT_TRUE(given) << given.error().message;
  const auto again = ParseJobSpecJson(nlohmann::json(JobSpecToJson(*given)), "again");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->training.precision, Precision::kBf16);
  EXPECT_EQ(again->resources.collective, CollectiveKind::kNccl);
}

TEST(JobSpec, WhatOnlyADeviceCanDoIsRefusedOnTheCpu) {
  const auto on_cpu = [](const std::string& precision) {
    return Replace(Replace(kExample, "init: he", "init: he, precision: " + precision), "device: auto", "device: cpu");
  };
  EXPECT_THAT(ErrorOf(on_cpu("bf16")), HasSubstr("job.yaml: training.precision: bf16 with resources.device: cpu: the CPU computes in fp32"));
  EXPECT_THAT(ErrorOf(on_cpu("tf32")), HasSubstr("training.precision: tf32"));
  EXPECT_EQ(ErrorOf(on_cpu("fp32")), "accepted");
  EXPECT_EQ(ErrorOf(on_cpu("auto")), "accepted");
  EXPECT_THAT(ErrorOf(on_cpu("fp16")), HasSubstr("training.precision: \"fp16\" is not one of"));
  EXPECT_THAT(ErrorOf(Replace(kExample, "device: auto", "device: cpu, collective: nccl")), HasSubstr("resources.collective: nccl with device: cpu"));
}

TEST(JobSpec, FeaturesOfLaterVersionsAreRefusedByName) {
  EXPECT_THAT(ErrorOf(Replace(kExample, "mode: exact", "mode: canonical")), HasSubstr("reproducibility.mode: \"canonical\" is not supported"));
}

TEST(JobSpec, BrokenYamlNamesLineAndColumn) {
  EXPECT_THAT(ErrorOf("version: 1\nname: [a\n"), HasSubstr("job.yaml:"));
  EXPECT_THAT(ErrorOf("version: 1\nversion: 1\n"), HasSubstr("stands twice"));
  EXPECT_THAT(ErrorOf("- 1\n- 2\n"), HasSubstr("expected a section of fields"));
}

TEST(JobSpec, YamlThatGrowsWithoutBoundIsRefused) {
  std::string laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    laughs += fmt::format("a{0}: &a{0} [", i);
    for (int k = 0; k < 10; ++k) laughs += fmt::format("{}*a{}", k > 0 ? ", " : "", i - 1);
    laughs += "]\n";
  }
  const auto refused = YamlToJson(laughs, "job.yaml");
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("more than 10000 values"), std::string::npos) << refused.error().message;
}

TEST(JobSpec, SetEditsDottedFields) {
  auto document = YamlToJson(kExample, "job.yaml");
  ASSERT_TRUE(document);
  ASSERT_TRUE(SetField(*document, "training.max_epochs", "3"));
  ASSERT_TRUE(SetField(*document, "data.train_scale", "[64, 72]"));
  const auto spec = ParseJobSpecJson(nlohmann::json(*document), "job.yaml");
  ASSERT_TRUE(spec) << spec.error().message;
  EXPECT_EQ(spec->training.max_epochs, 3);
  EXPECT_EQ(spec->data.train_scale_high, 72);
  EXPECT_FALSE(SetField(*document, "name.inner", "3"));
}

TEST(JobSpec, ATimeLimitIsADurationAndSurvivesTheRoundTrip) {
  auto document = YamlToJson(kExample, "job.yaml");
  ASSERT_TRUE(document);
  EXPECT_EQ(ParseJobSpecJson(nlohmann::json(*document), "job.yaml")->resources.time_limit_s, 0);
  ASSERT_TRUE(SetField(*document, "resources.time_limit", "12h"));
  const auto spec = ParseJobSpecJson(nlohmann::json(*document), "job.yaml");
  ASSERT_TRUE(spec) << spec.error().message;
  EXPECT_EQ(spec->resources.time_limit_s, 43'200);
  EXPECT_EQ(ParseJobSpecJson(nlohmann::json(JobSpecToJson(*spec)), "job.yaml")->resources.time_limit_s, 43'200);
  for (const char* bad : {"12", "0.5s", "-1h", "soon"}) {
    ASSERT_TRUE(SetField(*document, "resources.time_limit", bad));
    const auto refused = ParseJobSpecJson(nlohmann::json(*document), "job.yaml");
    ASSERT_FALSE(refused.has_value()) << bad;
    EXPECT_THAT(refused.error().message, HasSubstr("resources.time_limit")) << bad;
  }
}

TEST(JobSpec, IntervalsKnowThreeUnits) {
  for (const auto& [text, unit, amount] : {std::tuple{"500it", Interval::Unit::kIterations, 500.0}, {"30m", Interval::Unit::kSeconds, 1800.0},
                                           {"0.5ep", Interval::Unit::kEpochs, 0.5}}) {
    const auto spec = ParseJobSpecText(Replace(kExample, "every: 1ep, keep", std::string("every: ") + text + ", keep"), "job.yaml");
    ASSERT_TRUE(spec) << spec.error().message;
    EXPECT_EQ(spec->checkpoint.every, (Interval{unit, amount}));
  }
}

// The specification of `text`, and again of its full form, which must not differ.
JobSpec Twice(const std::string& text) {
  const auto spec = ParseJobSpecText(text, "job.yaml");
  EXPECT_TRUE(spec) << (spec ? "" : spec.error().message);
  if (!spec) return {};
  const auto again = ParseJobSpecJson(nlohmann::json(JobSpecToJson(*spec)), "again");
  EXPECT_TRUE(again) << (again ? "" : again.error().message);
  if (!again) return {};
  EXPECT_EQ(JobSpecToJson(*again).dump(), JobSpecToJson(*spec).dump());
  return *again;
}

TEST(JobSpec, EachPolicyHasItsFields) {
  const auto with = [](const std::string& lr) { return Replace(kExample, "policy: plateau", lr); };
  const JobSpec step = Twice(with("policy: step, every: 10ep"));
  EXPECT_EQ(step.lr.kind, LrKind::kStep);
  EXPECT_EQ(step.lr.every, (Interval{Interval::Unit::kEpochs, 10}));
  const JobSpec poly = Twice(with("policy: poly, power: 0.5, final: 0.001"));
  EXPECT_EQ(poly.lr.power, 0.5);
  EXPECT_EQ(poly.lr.final, 0.001);
  const JobSpec cosine = Twice(with("policy: cosine, warmup: 500it, warmup_from: 0.1"));
  EXPECT_EQ(cosine.lr.kind, LrKind::kCosine);
  EXPECT_EQ(cosine.lr.warmup, (Interval{Interval::Unit::kIterations, 500}));
  EXPECT_EQ(cosine.lr.warmup_from, 0.1);
  EXPECT_EQ(Twice(with("policy: constant, warmup: 2ep")).lr.warmup->amount, 2);
  EXPECT_THAT(ErrorOf(with("policy: plateau, power: 2")), HasSubstr("lr.power: belongs to policy poly, and this one is plateau"));
  EXPECT_THAT(ErrorOf(with("policy: cosine, every: 1ep")), HasSubstr("lr.every: belongs to policy step"));
  EXPECT_THAT(ErrorOf(with("policy: poly, final: 1")), HasSubstr("lr.final: 1 is more than lr.initial"));
  EXPECT_THAT(ErrorOf(with("policy: step, every: 30m")), HasSubstr("lr.every: 1800s is a time"));
  EXPECT_THAT(ErrorOf(with("policy: plateau, warmup_from: 0.1")), HasSubstr("there is no lr.warmup"));
  EXPECT_THAT(ErrorOf(with("policy: cosin")), HasSubstr("did you mean cosine?"));
}

TEST(JobSpec, AWarmStartFromAJobIsADependency) {
  const auto with = [](const std::string& from) { return Replace(kExample, "width: 0.5", "width: 0.5, init_from: " + from); };
  EXPECT_THAT(AllDependencies(Twice(with("{job: a-1, layers: vgg-first4-fc3}"))), ::testing::ElementsAre(Dependency{"a-1"}));
  EXPECT_THAT(AllDependencies(Twice(with("{checkpoint: /runs/a}"))), ::testing::IsEmpty());
  EXPECT_EQ(Twice(with("{job: a-1, pick: best}")).model.init_from->pick, CheckpointPick::kBest);
  EXPECT_THAT(ErrorOf(with("{checkpoint: /runs/a, pick: best}")), HasSubstr("model.init_from.pick: belongs to job"));
}

TEST(JobSpec, ADependencyDoesNotWeakenThatOnACheckpoint) {
  const auto with = [](const std::string& condition) {
    return Replace(kExample, "width: 0.5", "width: 0.5, init_from: {job: a-1}") + "depends_on: [{job: a-1, condition: " + condition + "}]\n";
  };
  for (const char* weaker : {"ended", "failed"})
    EXPECT_THAT(ErrorOf(with(weaker)), HasSubstr(std::string("depends_on: a-1 with condition ") + weaker + ", but model.init_from takes its checkpoint"));
  EXPECT_THAT(AllDependencies(Twice(with("completed"))), ::testing::ElementsAre(Dependency{"a-1"}));
}

constexpr const char* kEvaluate = R"(
version: 1
kind: evaluate
name: test-d
output: /shared/runs
evaluate: {job: d-1, store: /data/tin20, scales: [288, 224, 256], mode: both, posteriors: true}
resources: {workers: 4}
)";

TEST(JobSpec, AnEvaluationHasASectionOfItsOwn) {
  const JobSpec spec = Twice(kEvaluate);
  EXPECT_EQ(spec.kind, "evaluate");
  EXPECT_EQ(spec.evaluate.job, "d-1");
  EXPECT_THAT(spec.evaluate.scales, ::testing::ElementsAre(224, 256, 288)) << "ascending";
  EXPECT_EQ(spec.evaluate.mode, EvaluationMode::kBoth);
  EXPECT_TRUE(spec.evaluate.flip);
  EXPECT_TRUE(spec.evaluate.posteriors);
  EXPECT_EQ(spec.evaluate.split, "val");
  EXPECT_THAT(AllDependencies(spec), ::testing::ElementsAre(Dependency{"d-1"}));
  EXPECT_EQ(Twice(Replace(kEvaluate, "[288, 224, 256]", "256")).evaluate.scales, std::vector<int>{256});
  EXPECT_FALSE(JobSpecToJson(spec).contains("training"));
  EXPECT_THAT(ErrorOf(std::string(kEvaluate) + "training: {max_epochs: 3}\n"), HasSubstr("unknown field \"training\""));
  EXPECT_THAT(ErrorOf(Replace(kEvaluate, "mode: both", "mode: multi-crop")), HasSubstr("did you mean multicrop?"));
  EXPECT_THAT(ErrorOf(Replace(kEvaluate, "[288, 224, 256]", "[256, 256]")), HasSubstr("evaluate.scales: [256,256] holds a scale twice"));
  EXPECT_THAT(ErrorOf(Replace(kEvaluate, "[288, 224, 256]", "[0]")), HasSubstr("evaluate.scales"));
  EXPECT_THAT(ErrorOf(Replace(kEvaluate, "job: d-1, ", "")), HasSubstr("evaluate.job: give exactly one of job"));
  EXPECT_THAT(ErrorOf(Replace(kEvaluate, "store: /data/tin20, ", "")), HasSubstr("evaluate.store: missing"));
}

TEST(JobSpec, DependenciesNameJobsAndConditions) {
  const std::string base = kExample;
  const JobSpec spec = Twice(base + "depends_on: [a-1, {job: b-2, condition: ended}, {job: c-3, condition: failed}]\n");
  EXPECT_THAT(spec.depends_on, ::testing::ElementsAre(Dependency{"a-1"}, Dependency{"b-2", DependencyCondition::kEnded},
                                                      Dependency{"c-3", DependencyCondition::kFailed}));
  EXPECT_THAT(ErrorOf(base + "depends_on: a-1\n"), HasSubstr("depends_on: \"a-1\" is not a list"));
  EXPECT_THAT(ErrorOf(base + "depends_on: [{job: a-1, condition: complete}]\n"), HasSubstr("did you mean completed?"));
  EXPECT_THAT(ErrorOf(base + "depends_on: [{jobb: a-1}]\n"), HasSubstr("depends_on[0]"));
  EXPECT_THAT(ErrorOf(base + "depends_on: [a-1, {job: a-1}]\n"), HasSubstr("stands twice"));
}

TEST(JobSpec, APipelineIsForTheCoordinator) {
  EXPECT_THAT(ErrorOf(Replace(kExample, "kind: train", "kind: pipeline")), HasSubstr("submit it to a coordinator"));
}

TEST(JobSpec, TheLengthOfARunIsInSteps) {
  JobSpec spec = Twice(kExample);
  spec.training.max_epochs = 3;
  EXPECT_EQ(LengthOf(spec, 100).total_steps, 5) << "300 images in batches of 64";
  spec.training.max_steps = 4;
  EXPECT_EQ(LengthOf(spec, 100).total_steps, 4);
}

}  // namespace
}  // namespace plateau
