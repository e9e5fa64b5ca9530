// Tests as jobs of a coordinator: they wait for what they test, their result is stored, and bad ones fail for good.
#include <gmock/gmock.h>

#include "tests/support/house.h"

namespace plateau {
namespace {

using test::Json;
using ::testing::HasSubstr;

class EvaluateJob : public ::testing::Test {
 protected:
  // A training job of two epochs.
  std::string Train() {
    Json spec = house_.Spec("trained");
    spec["training"]["max_steps"] = 16;
    spec["resources"]["workers"] = 1;
    return house_.Submit(spec);
  }
  Json TestOf(const std::string& job, std::vector<int> scales) const {
    return {{"version", 1},
            {"kind", "evaluate"},
            {"name", "tested"},
            {"output", house_.runs()},
            {"evaluate",
             {{"job", job},
              {"store", house_.store()},
              {"scales", scales},
              {"mode", "both"},
              {"flip", true},
              {"posteriors", true},
              {"per_class", true}}},
            {"resources", {{"workers", 2}, {"device", "cpu"}}}};
  }
  test::House house_;
};

TEST_F(EvaluateJob, AJobIsTestedWhenItHasEndedAndTheResultIsStored) {
  const std::string trained = Train(), tested = house_.Submit(TestOf(trained, {32, 48}));
  const Json job = house_.AwaitEnd(tested);
  ASSERT_EQ(job["state"], "COMPLETED") << job.dump(1);
  const Json result = job["result"];
  ASSERT_TRUE(result.is_object()) << job.dump(1);
  EXPECT_EQ(result["images"], 40);
  EXPECT_EQ(result["ranks"], 2);

  PosixFileSystem files;
  const std::string folder = job["output"].get<std::string>();
  EXPECT_EQ(nlohmann::json::parse(*files.Read(folder + "/attempt-1/result.json")), nlohmann::json(result)) << "whatever the order of keys";
  const auto alone = test::RunPlateau(
      fmt::format("evaluate {} --store {} --scales 32,48 --mode both --flip --json --threads 1 --posteriors {}/alone",
                  house_.Job(trained).value("output", ""), house_.store(), house_.folder()));
  ASSERT_EQ(alone.code, 0) << alone.out;
  const Json by_hand = Json::parse(alone.out.substr(alone.out.find('{')));
  for (const char* field : {"images", "correct1", "correct5", "checkpoint", "checkpoint_checksum"})
    EXPECT_EQ(result[field], by_hand[field]) << field;
  const auto fused =
      test::RunPlateau(fmt::format("fuse {}/{} {}/alone --json", folder, result.value("posteriors", ""), house_.folder()));
  ASSERT_EQ(fused.code, 0) << fused.out;
  EXPECT_EQ(Json::parse(fused.out)["correct1"], result["correct1"]) << "two equal files";
  EXPECT_TRUE(files.Exists(folder + "/attempt-1/per_class.json"));
}

TEST_F(EvaluateJob, AScaleBelowTheCropFailsOnceAndForGood) {
  const std::string tested = house_.Submit(TestOf(Train(), {31}));
  const Json job = house_.AwaitEnd(tested);
  EXPECT_EQ(job["state"], "FAILED") << job.dump(1);
  EXPECT_EQ(job["reason"], "BAD_INPUT");
  EXPECT_THAT(job.value("message", ""), HasSubstr("31 is smaller than the checkpoint's crop of 32"));
  EXPECT_EQ(job["attempts"].size(), 1u);
}

}  // namespace
}  // namespace plateau
