// Whole runs that begin from another run's weights: what they took is what the other run published.
#include <gmock/gmock.h>

#include "common/checksum.h"
#include "common/safetensors.h"
#include "tests/support/worker_run.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;

class WarmStartRun : public test::WorkerRun {
 protected:
  std::vector<std::string> Deeper(const std::string& from, const std::string& more = "") const {
    return {"--set", "model.network=vgg-b", "--set", "training.max_steps=3", "--set",
            "model.init_from={checkpoint: " + from + ", layers: vgg-first4-fc3" + more + "}"};
  }
};

TEST_F(WarmStartRun, ADeeperRunBeginsWithTheTensorsThatAPublished) {
  const std::string a = out_ + "/a", b = out_ + "/b";
  ASSERT_EQ(Run(1, a, {"--set", "training.max_steps=4"}), 0) << last_output_;
  ASSERT_EQ(Run(2, b, Deeper(a + "/tiny")), 0) << last_output_;
  const auto model = SafetensorsFile::Parse(Published(a, "model.safetensors"), "a");
  ASSERT_TRUE(model.has_value()) << model.error().message;
  const auto warm = nlohmann::json::parse(test::ReadText(b + "/tiny/attempt-1/warm_start.json"));
  EXPECT_THAT(warm["checkpoint"].get<std::string>(), HasSubstr(a + "/tiny/attempt-1/step-000000004"));
  ASSERT_EQ(warm["tensors"].size(), 14u);
  for (const auto& [name, checksum] : warm["tensors"].items())
    EXPECT_EQ(checksum, ChecksumText(Checksum(model->tensors().at(name).bytes))) << name;
  EXPECT_EQ(warm["folded"], false);
  // Going on later does not take them again.
  ASSERT_EQ(Run(2, b, {"--set", "model.network=vgg-b", "--set", "training.max_steps=5"}), 0) << last_output_;
  EXPECT_FALSE(std::filesystem::exists(b + "/tiny/attempt-2/warm_start.json"));
}

TEST_F(WarmStartRun, AModelThatDoesNotFitIsRefusedBeforeTheFirstStep) {
  const std::string a = out_ + "/a";
  ASSERT_EQ(Run(1, a, {"--set", "training.max_steps=2"}), 0) << last_output_;
  auto wider = Deeper(a + "/tiny");
  wider.insert(wider.end(), {"--set", "model.width=0.06"});
  EXPECT_EQ(Run(1, out_ + "/wide", wider), 2);
  EXPECT_THAT(last_output_, HasSubstr("layer fc6 cannot be taken"));
  EXPECT_EQ(Run(1, out_ + "/none", Deeper(out_ + "/nowhere")), 2);
  EXPECT_THAT(last_output_, HasSubstr("nowhere: there is no such checkpoint"));
  EXPECT_EQ(Run(1, out_ + "/job", {"--set", "model.init_from={job: vgg-a-7}"}), 2);
  EXPECT_THAT(last_output_, HasSubstr("only a coordinator knows jobs"));
}

}  // namespace
}  // namespace plateau
