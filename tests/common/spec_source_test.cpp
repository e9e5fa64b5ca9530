// An error blames the place where its field was given.
#include "common/spec_source.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/job_spec.h"

namespace plateau {
namespace {

const SpecSource kSource{
    "job.yaml", {{"resources.device", "cpu"}, {"resources.device", "gpu"}, {"lr", "{initial: x}"}, {"training.momentun", "3"}}};

std::string Message(const std::string& text, const std::string& where = "request body") {
  return Located({ErrorCode::kInvalidInput, text}, kSource, where).message;
}

TEST(SpecSource, AFieldOfTheCommandLineIsBlamedThereWithItsLastValue) {
  EXPECT_EQ(Message("request body: resources.device: \"gpu\" is not one of auto, cpu, cuda"),
            "--set resources.device=gpu: \"gpu\" is not one of auto, cpu, cuda");
  EXPECT_EQ(Message("request body: lr.initial: \"x\" is not a number"), "--set lr={initial: x}: lr.initial: \"x\" is not a number");
  EXPECT_EQ(Message("request body: unknown field \"training.momentun\"; did you mean \"training.momentum\"?"),
            "--set training.momentun=3: unknown field \"training.momentun\"; did you mean \"training.momentum\"?");
}

TEST(SpecSource, AFieldOfAPipelinesJobIsTheOneThatWasSetForItOrForAll) {
  EXPECT_EQ(Message("request body: jobs.b-256: resources.device: \"gpu\" is not one of auto"),
            "--set resources.device=gpu: jobs.b-256: resources.device: \"gpu\" is not one of auto");
  EXPECT_EQ(Located({ErrorCode::kInvalidInput, "request body: jobs.b: lr.initial: 7"}, {"p.yaml", {{"jobs.b.lr.initial", "7"}}},
                    "request body")
                .message,
            "--set jobs.b.lr.initial=7: jobs.b: lr.initial: 7");
  EXPECT_EQ(Message("request body: jobs.b: data.crop: 0"), "job.yaml: jobs.b: data.crop: 0");
}

TEST(SpecSource, OtherFieldsAreBlamedOnTheFile) {
  EXPECT_EQ(Message("request body: resources.workers: 0 is not a whole number"),
            "job.yaml: resources.workers: 0 is not a whole number");
  EXPECT_EQ(Message("request body: resources.devices: x"), "job.yaml: resources.devices: x");
  EXPECT_EQ(Message("job.yaml: name: is empty", "job.yaml"), "job.yaml: name: is empty");
}

TEST(SpecSource, WhatWasFoundOutLaterIsLocatedByItsFieldAndOtherMessagesStay) {
  EXPECT_EQ(Message("resources.device: cuda cannot be had", "job.yaml"), "--set resources.device=gpu: cuda cannot be had");
  EXPECT_EQ(Message("training.precision: bf16 needs a CUDA device", "job.yaml"),
            "job.yaml: training.precision: bf16 needs a CUDA device");
  EXPECT_EQ(Message("rank 3: resources.device: cuda cannot be had", "job.yaml"),
            "rank 3: --set resources.device=gpu: cuda cannot be had");
  EXPECT_EQ(Message("rank 12: training.micro_batch: auto: no room", ""), "rank 12: job.yaml: training.micro_batch: auto: no room");
  for (const char* text : {"rank 1: cannot join", "rank: training.precision: x", "rank 1 of 2: training.precision: x",
                           "/data/set/manifest.json: cannot be read", "plateau.db: locked", "data.store /x: has no val images"})
    EXPECT_EQ(Message(text, "job.yaml"), text);
}

// The parser's own messages have the form that is looked for.
TEST(SpecSource, TheParsersMessagesAreUnderstood) {
  auto document = YamlToJson("version: 1\nname: a\noutput: /o\nmodel: {network: vgg-a}\ndata: {store: /s}\n", "job.yaml");
  ASSERT_TRUE(document);
  const auto error = [&](const std::string& field, const std::string& value) {
    auto changed = *document;
    EXPECT_TRUE(SetField(changed, field, value));
    const auto spec = ParseJobSpecJson(nlohmann::json(changed), "job.yaml");
    EXPECT_FALSE(spec) << field;
    return spec ? "" : Located(spec.error(), {"job.yaml", {{field, value}}}, "job.yaml").message;
  };
  EXPECT_EQ(error("resources.device", "gpu"),
            "--set resources.device=gpu: \"gpu\" is not one of auto, cpu, cuda; did you mean cuda?");
  EXPECT_TRUE(error("training.momentum", "7").starts_with("--set training.momentum=7: 7 is not a number from 0 to "));
  EXPECT_TRUE(error("training.precision", "fp8").starts_with("--set training.precision=fp8: "));
  EXPECT_TRUE(error("checkpoint.evry", "3").starts_with("--set checkpoint.evry=3: unknown field \"checkpoint.evry\""));
}

}  // namespace
}  // namespace plateau
