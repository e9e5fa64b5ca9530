// A pipeline through the real programs: warm start, evaluations, a kill of the coordinator half way, and the report.
#include <cmath>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/job_spec.h"
#include "common/safetensors.h"
#include "tests/support/house.h"

namespace plateau::test {
namespace {

using ::testing::HasSubstr;

constexpr const char* kPipeline = R"(
version: 1
kind: pipeline
name: small
scale_factor: 1/7
model: {width: 0.05}
data: {crop: 224, train_scale: 256}
training: {global_batch: 16, max_steps: 160, max_epochs: 20, dropout: 0.3}
lr: {initial: 0.01, policy: cosine, warmup: 2ep}
validation: {every: 40it}
checkpoint: {every: 20it}
evaluate: {posteriors: true}
resources: {workers: 2, device: cpu}
jobs:
  a: {model: {network: vgg-a}}
  b: {model: {network: vgg-b, init_from: {job: a, layers: vgg-first4-fc3}}, training: {max_steps: 1}, lr: {initial: 1.0e-12, policy: constant}}
  test-a: {kind: evaluate, evaluate: {job: a, scales: [256]}, report: {table: 3, row: [A, "256", "256"]}}
  test-b: {kind: evaluate, evaluate: {job: b, scales: [224, 288], mode: both}, report: {table: 3, row: [B, "256", "256"]}}
fusions:
  both: {of: [test-a, test-b], report: {table: 6, row: "D+E, multi-crop"}}
)";

// The weights of a completed training, by name.
SafetensorsFile Weights(const House& house, const std::string& id) {
  PosixFileSystem files;
  const Json job = house.Job(id);
  auto file = SafetensorsFile::Load(files, job.value("output", "") + "/" + job["checkpoint"].value("path", "") + "/model.safetensors");
  EXPECT_TRUE(file.has_value()) << (file ? "" : file.error().message);
  return file ? std::move(*file) : *SafetensorsFile::Parse(SafetensorsHeader({}, {}), "none");
}

double LargestDifference(const SafetensorsFile& a, const SafetensorsFile& b, const std::string& name) {
  const auto one = a.tensors().find(name), other = b.tensors().find(name);
  if (one == a.tensors().end() || other == b.tensors().end() || one->second.shape != other->second.shape) return -1;
  const auto* x = reinterpret_cast<const float*>(one->second.bytes.data());
  const auto* y = reinterpret_cast<const float*>(other->second.bytes.data());
  double largest = 0;
  for (size_t i = 0; i < one->second.bytes.size() / sizeof(float); ++i) largest = std::max<double>(largest, std::fabs(x[i] - y[i]));
  return largest;
}

TEST(Pipeline, RunsUnattendedToItsReportThoughItsCoordinatorIsKilled) {
  House house;
  std::ofstream(house.folder() + "/small.yaml") << kPipeline;
  const std::string state = " --state " + house.state();
  const std::string submit = "submit " + house.folder() + "/small.yaml --set data.store=" + house.store() + " --set output=" + house.runs() +
                             " --idempotency-key once" + state;
  ASSERT_EQ(RunPlateau(submit).code, 0);
  house.AwaitCheckpoint("small-1.a");
  house.KillCoordinator();
  house.Up();
  const Ran again = RunPlateau(submit);
  EXPECT_THAT(again.out, HasSubstr("small-1 is")) << "the key is known: no second pipeline";
  const Ran watch = RunPlateau("watch small" + state);
  ASSERT_EQ(watch.code, 0) << watch.out << RunPlateau("logs small-1.test-b" + state).out << RunPlateau("logs small-1.b" + state).out;
  EXPECT_EQ(house.Api().Get("/v1/jobs")->at("jobs").size(), 4u);
  for (const char* job : {"a", "b", "test-a", "test-b"})
    EXPECT_EQ(house.Job(std::string("small-1.") + job)["attempts"].size(), 1u) << job;

  // B had one step at a rate that leaves its weights as they began: A's where they were taken over.
  const SafetensorsFile a = Weights(house, "small-1.a"), b = Weights(house, "small-1.b");
  for (const char* layer : {"conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8"}) {
    const double difference = LargestDifference(a, b, std::string(layer) + ".weight");
    EXPECT_GE(difference, 0) << layer;
    EXPECT_LT(difference, 1e-9) << layer;
  }
  EXPECT_GT(LargestDifference(a, b, "conv4_1.weight"), 1e-3) << "begins from random weights of its own";

  // Every point of the curve has the rate of its step, across the kill.
  const Json job = house.Job("small-1.a");
  const auto spec = ParseJobSpecJson(nlohmann::json(job["spec"]), "spec");
  ASSERT_TRUE(spec.has_value()) << spec.error().message;
  const Json metrics = *house.Api().Get(JobPath("small-1.a", "/metrics"));
  ASSERT_FALSE(metrics["points"].empty());
  for (const auto& point : metrics["points"])
    EXPECT_DOUBLE_EQ(point["lr"], RateAt(spec->lr, 0.01, LengthOf(*spec, 128), point["step"].get<int64_t>() - 1)) << point.dump();

  const Ran report = RunPlateau("report small-1 --format json" + state);
  ASSERT_EQ(report.code, 0) << report.out;
  const Json parsed = Json::parse(report.out);
  const Json& row = parsed["tables"][0]["rows"][0];
  const Json result = house.Job("small-1.test-a")["result"];
  EXPECT_EQ(result["images"], 40);
  EXPECT_DOUBLE_EQ(row["measured"]["top1_error"], 100 * (1 - result["correct1"].get<double>() / 40));
  EXPECT_DOUBLE_EQ(row["published"]["top1_error"], 29.6);
  EXPECT_EQ(row["epochs"], 20);
  EXPECT_FALSE(parsed["tables"][3]["rows"][2]["measured"]["top1_error"].is_null()) << "the fusion: " << report.out;
  const Json& depth = parsed["claims"][0]["parts"][0];
  EXPECT_EQ(depth["comparisons"].size(), 1u) << "A and B on the same images";
  EXPECT_EQ(depth["improvement"]["images"], 40);
  EXPECT_EQ(RunPlateau("report small --format html --output " + house.folder() + "/report.html" + state).code, 0);
  EXPECT_GT(std::filesystem::file_size(house.folder() + "/report.html"), 5'000u);
}

}  // namespace
}  // namespace plateau::test
