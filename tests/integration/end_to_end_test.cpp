// The main job through the real programs: submit, mpirun workers, plateau, checkpoints, kills, resume. What is compared is bits.
#include <csignal>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/job_spec.h"
#include "common/lr_plateau.h"
#include "tests/support/house.h"

namespace plateau::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr int kSteps = 640;
constexpr size_t kValidations = 80;  // one in 8 steps

// What every run of a specification must give: the final weights, the curve's end and each decision.
struct Outcome {
  std::string model;
  std::vector<std::pair<double, std::string>> decisions;  // value, action
  bool operator==(const Outcome&) const = default;
};

Outcome OutcomeOf(const House& house, const Json& job) {
  EXPECT_EQ(job["state"], "COMPLETED") << job.dump(1);
  EXPECT_EQ(job["step"], kSteps);
  Outcome outcome{house.FinalModel(job), {}};
  EXPECT_GT(outcome.model.size(), 1000u);
  const Json history = house.History(job["id"]);
  for (const auto& decision : history["decisions"]) outcome.decisions.emplace_back(decision["value"], decision["action"]);
  return outcome;
}

Outcome Undisturbed(const House& house) { return OutcomeOf(house, house.AwaitEnd(house.Submit(house.Spec("calm")))); }

TEST(EndToEnd, JobCompletesAndItsHistoryReplays) {
  House house;
  const Json spec = house.Spec("first");
  const Json job = house.AwaitEnd(house.Submit(spec));
  const Outcome outcome = OutcomeOf(house, job);
  EXPECT_EQ(job["reason"], "MAX_STEPS");
  ASSERT_EQ(outcome.decisions.size(), kValidations);

  const auto parsed = ParseJobSpecJson(nlohmann::json(spec), "spec");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  std::vector<double> values;
  for (const auto& [value, action] : outcome.decisions) values.push_back(value);
  const auto replayed = ReplayLr(parsed->lr, values);
  const Json history = house.History(job["id"]);
  int decays = 0;
  for (size_t i = 0; i < replayed.size(); ++i) {
    const Json& stored = history["decisions"][i];
    EXPECT_EQ(stored["action"], LrActionName(replayed[i].action)) << i;
    EXPECT_EQ(stored["lr"], replayed[i].lr) << i;
    EXPECT_EQ(stored["improved"], replayed[i].improved) << i;
    EXPECT_EQ(stored["reason"], replayed[i].reason) << i;
    decays += replayed[i].action == LrAction::kDecay ? 1 : 0;
  }
  EXPECT_GE(decays, 1);

  const Json metrics = *house.Api().Get(JobPath(job["id"], "/metrics"));
  EXPECT_EQ(metrics["validations"].size(), kValidations);
  EXPECT_EQ(metrics["validations"][0]["images"], 40);
  EXPECT_FALSE(metrics["points"].empty());
  const Ran logs = RunPlateau("logs --state " + house.state() + " first");
  EXPECT_EQ(logs.code, 0);
  EXPECT_THAT(logs.out, HasSubstr("validation 80"));
}

TEST(EndToEnd, KilledRankMidEpochIsResumedToTheSameBits) {
  House house;
  const Outcome calm = Undisturbed(house);
  const std::string id = house.Submit(house.Spec("killed"));
  const Json running = house.AwaitCheckpoint(id);
  ASSERT_FALSE(House::Ended(running)) << running.dump(1);
  ASSERT_NE(running["checkpoint"]["step"].get<int>() % 8, 0) << "the checkpoint should lie within an epoch";
  const pid_t victim = house.PidOfRank(id, 1);
  ASSERT_GT(victim, 0);
  ASSERT_EQ(::kill(victim, SIGKILL), 0);
  const Json job = house.AwaitEnd(id);
  EXPECT_EQ(job["attempts"].size(), 2u);
  EXPECT_EQ(job["restarts"], 1);
  EXPECT_EQ(OutcomeOf(house, job), calm);
}

TEST(EndToEnd, KilledCoordinatorFindsItsJobAgain) {
  House house;
  const Outcome calm = Undisturbed(house);
  const std::string id = house.Submit(house.Spec("orphan"));
  house.AwaitCheckpoint(id);
  house.KillCoordinator();
  house.Up();
  const Json job = house.AwaitEnd(id);
  EXPECT_EQ(job["attempts"].size(), 1u) << "the workers should have lived on";
  EXPECT_EQ(OutcomeOf(house, job), calm);
  EXPECT_FALSE(house.HadEvent(id, "killing")) << "rank 0 was left waiting for an answer";
  EXPECT_FALSE(house.HadEvent(id, "checkpoint_rejected"));
  EXPECT_EQ(house.Job("calm-1")["state"], "COMPLETED");
}

TEST(EndToEnd, CancelledJobGoesOnWhereItStopped) {
  House house;
  const Outcome calm = Undisturbed(house);
  const std::string id = house.Submit(house.Spec("stopped"));
  house.AwaitCheckpoint(id);
  const Ran cancel = RunPlateau("cancel --follow --state " + house.state() + " " + id);
  EXPECT_EQ(cancel.code, 0) << cancel.out;
  const Json cancelled = house.Job(id);
  ASSERT_EQ(cancelled["state"], "CANCELLED");
  EXPECT_LT(cancelled["checkpoint"]["step"].get<int>(), kSteps);
  const Ran resume = RunPlateau("resume --follow --state " + house.state() + " " + id);
  EXPECT_EQ(resume.code, 0) << resume.out;
  const Json job = house.Job(id);
  EXPECT_EQ(job["attempts"].size(), 2u);
  EXPECT_EQ(OutcomeOf(house, job), calm);
  EXPECT_EQ(RunPlateau("resume --state " + house.state() + " " + id).code, 1) << "a completed job cannot be resumed";
}

TEST(EndToEnd, LossThatIsNotFiniteFailsAtOnceAndNamesTheLayer) {
  House house;
  Json spec = house.Spec("nan");
  spec["lr"]["initial"] = 1e6;
  std::ofstream(house.folder() + "/nan.json") << spec.dump();
  const Ran submit = RunPlateau("submit --follow --state " + house.state() + " " + house.folder() + "/nan.json");
  EXPECT_EQ(submit.code, 3) << submit.out;
  const Json job = house.Job("nan-1");
  EXPECT_EQ(job["state"], "FAILED");
  EXPECT_EQ(job["reason"], "NAN_LOSS");
  EXPECT_EQ(job["attempts"].size(), 1u) << "a loss that is not finite would come again";
  EXPECT_THAT(job["message"].get<std::string>(), AnyOf(HasSubstr("conv"), HasSubstr("fc")));
  EXPECT_THAT(job["message"].get<std::string>(), HasSubstr("step"));
}

TEST(EndToEnd, WebPageIsServedByTheCoordinator) {
  House house;
  const auto page = house.Api().GetRaw("/");
  ASSERT_TRUE(page.has_value()) << page.error().message;
  EXPECT_EQ(page->status, 200);
  EXPECT_THAT(page->headers.at("content-type"), HasSubstr("text/html"));
  EXPECT_THAT(page->body, HasSubstr("<title>Plateau</title>"));
  EXPECT_THAT(page->body, HasSubstr("</html>"));
  EXPECT_EQ(house.Api().Get("/healthz")->value("status", ""), "ok");
}

}  // namespace
}  // namespace plateau::test
