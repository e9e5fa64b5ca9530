// What a job must come to, however it was disturbed: the same bits, each decision once, nothing left behind.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/job_spec.h"
#include "common/lr_plateau.h"
#include "tests/support/gang_watch.h"
#include "tests/support/house.h"

namespace plateau::test {

// Equal for every run of a specification.
struct Outcome {
  std::string model;                                     // bytes of the final weights
  std::vector<std::pair<double, std::string>> decisions;  // value, action
  bool operator==(const Outcome&) const = default;
};

// Of a job that must have completed: its attempts one after the other, each validation decided once and as the policy replays it.
inline Outcome OutcomeOf(const House& house, const Json& job) {
  EXPECT_EQ(job["state"], "COMPLETED") << job.dump(1);
  EXPECT_EQ(job["step"], job["max_steps"]);
  Outcome outcome{house.FinalModel(job), {}};
  EXPECT_GT(outcome.model.size(), 1000u);

  const auto& attempts = job["attempts"];
  for (size_t i = 0; i + 1 < attempts.size(); ++i)
    EXPECT_LE(attempts[i]["ended"].get<std::string>(), attempts[i + 1]["started"].get<std::string>()) << attempts.dump(1);

  const Json history = house.History(job["id"]);
  std::vector<double> values;
  for (const auto& decision : history["decisions"]) {
    EXPECT_EQ(decision["validation"], values.size() + 1);
    values.push_back(decision["value"]);
    outcome.decisions.emplace_back(decision["value"], decision["action"]);
  }
  const auto spec = ParseJobSpecJson(nlohmann::json(job["spec"]), "spec", true);
  EXPECT_TRUE(spec.has_value()) << (spec ? "" : spec.error().message);
  if (!spec) return outcome;
  const auto replayed = ReplayLr(spec->lr, values);
  for (size_t i = 0; i < replayed.size(); ++i) {
    EXPECT_EQ(history["decisions"][i]["action"], LrActionName(replayed[i].action)) << "validation " << i + 1;
    EXPECT_EQ(history["decisions"][i]["lr"], replayed[i].lr) << "validation " << i + 1;
  }
  std::map<int, int> decided;
  for (const auto& event : house.Events(job["id"]))
    if (event["type"] == "lr_decision") decided[event["validation"]] += 1;
  EXPECT_EQ(decided.size(), values.size());
  for (const auto& [validation, times] : decided) EXPECT_EQ(times, 1) << "validation " << validation << " was decided again";
  return outcome;
}

// No two attempts at once; no process, no scratch folder and no shared memory file remains.
inline void ExpectNothingLeft(const House& house, const std::string& id, const GangWatch& watch) {
  EXPECT_EQ(watch.Overlap(), "");
  EXPECT_EQ(watch.Living(), 0u);
  EXPECT_FALSE(watch.SharedMemoryFiles().empty()) << "ranks talk through shared memory: the watch saw none";
  for (const auto& path : watch.SharedMemoryFiles()) EXPECT_FALSE(std::filesystem::exists(path)) << path;
  PosixFileSystem files;
  const std::string attempts = house.state() + "/jobs/" + id;
  const auto names = files.List(attempts);
  ASSERT_TRUE(names.has_value()) << names.error().message;
  for (const auto& attempt : *names) {
    const auto launch = Json::parse(files.Read(attempts + "/" + attempt + "/launch.json").value_or("{}"));
    const std::string scratch = launch.value("scratch", "");
    EXPECT_TRUE(scratch.empty() || !std::filesystem::exists(scratch)) << scratch << " of " << attempt;
  }
}

// The outcome of a run of `spec` that nobody disturbs.
inline Outcome Undisturbed(const House& house, Json spec) {
  spec["name"] = "calm";
  const Json job = house.AwaitEnd(house.Submit(spec));
  EXPECT_EQ(job["attempts"].size(), 1u) << job.dump(1);
  return OutcomeOf(house, job);
}

}  // namespace plateau::test
