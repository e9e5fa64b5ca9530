// The shipped pipeline of the paper: it expands to what sections 3 and 4 describe, at full size and at a seventh of it, and fills the tables.
#include <fstream>
#include <iterator>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "coordinator/cli/submit_command.h"
#include "coordinator/pipeline/expand.h"
#include "coordinator/report/published.h"

namespace plateau::test {
namespace {

using ::testing::ElementsAre;

constexpr const char* kRecipe = PLATEAU_SOURCE_DIR "/deploy/recipes/vgg-paper.yaml";

PipelinePlan Expanded(std::vector<std::string> settings) {
  const auto document = PrepareSpec(kRecipe, settings);
  EXPECT_TRUE(document.has_value()) << (document ? "" : document.error().message);
  const auto plan = ExpandPipeline(nlohmann::json(*document), "recipe", false);
  EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
  return plan ? *plan : PipelinePlan{};
}

std::map<std::string, JobSpec> Specs(const PipelinePlan& plan) {
  std::map<std::string, JobSpec> specs;
  for (const auto& job : plan.jobs) specs[job.name] = job.spec;
  return specs;
}

TEST(PaperPipeline, TrainsAsThePaperDoes) {
  auto specs = Specs(Expanded({}));
  EXPECT_FALSE(specs["a"].model.init_from.has_value());
  EXPECT_EQ(InitSchemeText(specs["a"].training.init), "gaussian(0.01)");
  EXPECT_EQ(specs["a"].data.crop, 224);
  for (const char* net : {"b", "c", "d", "e"}) {
    EXPECT_EQ(specs[net].model.init_from->job, "a") << net;
    EXPECT_THAT(specs[net].model.init_from->layers, ElementsAre("vgg-first4-fc3"));
    EXPECT_EQ(specs[net].lr.initial, 0.01);
  }
  for (const std::string net : {"c", "d", "e"}) {
    const JobSpec& larger = specs[net + "-384"];
    EXPECT_EQ(larger.model.init_from->job, net);
    EXPECT_THAT(larger.model.init_from->layers, ElementsAre("all"));
    EXPECT_EQ(larger.data.train_scale_low, 384);
    EXPECT_EQ(larger.lr.initial, 1e-3);
    const JobSpec& jitter = specs[net + "-jitter"];
    EXPECT_EQ(jitter.model.init_from->job, net + "-384");
    EXPECT_EQ(jitter.data.train_scale_low, 256);
    EXPECT_EQ(jitter.data.train_scale_high, 512);
    EXPECT_EQ(jitter.validation.scale, 384);
  }
}

TEST(PaperPipeline, FillsEveryRowOfTables3To6Once) {
  const PipelinePlan plan = Expanded({});
  std::multiset<std::string> filled;
  const auto note = [&](const std::string& text) {
    const auto report = nlohmann::json::parse(text);
    for (const auto& one : report.is_array() ? report : nlohmann::json::array({report})) {
      if (!one.is_object() || !one.contains("table")) continue;
      const auto row = one.at("row").is_array() ? one.at("row") : nlohmann::json::array({one.at("row")});
      filled.insert(one.at("table").dump() + row.dump());
    }
  };
  for (const auto& job : plan.jobs) note(job.report);
  for (const auto& fusion : plan.fusions) note(fusion.report);
  for (const auto& table : PublishedTables())
    for (const auto& row : table.rows) {
      const bool ours = table.number < 7 || row.key.front().starts_with("VGG");
      EXPECT_EQ(filled.count(std::to_string(table.number) + nlohmann::json(row.key).dump()), ours ? 1u : 0u) << table.number << " " << row.key.front();
    }
  EXPECT_EQ(filled.size(), 12u + 10 + 6 + 4 + 3);
}

TEST(PaperPipeline, TheTestScalesAreThoseOfTheRows) {
  auto specs = Specs(Expanded({}));
  EXPECT_THAT(specs["multi-d"].evaluate.scales, ElementsAre(224, 256, 288));
  EXPECT_THAT(specs["multi-d-384"].evaluate.scales, ElementsAre(352, 384, 416));
  EXPECT_THAT(specs["crops-e-jitter"].evaluate.scales, ElementsAre(256, 384, 512));
  EXPECT_EQ(specs["crops-e-jitter"].evaluate.mode, EvaluationMode::kMultiCrop);
  EXPECT_THAT(specs["single-c-jitter"].evaluate.scales, ElementsAre(384));
}

TEST(PaperPipeline, SettingsReachEveryTrainingJobAtToySize) {
  const PipelinePlan plan = Expanded({"data.store=/store", "scale_factor=1/7", "training.init=he", "data.normalize=mean_std", "model.width=0.125",
                                      "training.max_epochs=4", "resources.workers=2", "resources.threads_per_worker=1"});
  for (const auto& [name, spec] : Specs(plan)) {
    if (spec.kind == "train") {
      EXPECT_EQ(spec.data.crop, 32) << name;
      EXPECT_EQ(InitSchemeText(spec.training.init), "he");
      EXPECT_EQ(spec.data.normalize, Normalize::kMeanStd);
      EXPECT_EQ(spec.model.width, 0.125);
      EXPECT_EQ(spec.training.max_epochs, 4);
      EXPECT_EQ(spec.resources.workers, name.starts_with("speed-") ? 1 : 2) << name;
    } else {
      EXPECT_EQ(spec.evaluate.store, "/store");
      EXPECT_GE(spec.evaluate.scales.front(), 32) << name << ": no test scale is smaller than the crop";
    }
  }
  EXPECT_THAT(Specs(plan)["multi-d-384"].evaluate.scales, ElementsAre(50, 55, 59));
}

}  // namespace
}  // namespace plateau::test
