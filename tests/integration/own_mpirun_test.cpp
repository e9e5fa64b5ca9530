// The user's own mpirun, registering itself with a coordinator: a job like any other, which its user resumes.
#include <sys/stat.h>

#include <csignal>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/house.h"
#include "tests/support/worker_run.h"

namespace plateau::test {
namespace {

using ::testing::HasSubstr;

class OwnMpirun : public ::testing::Test {
 protected:
  static constexpr const char* kNoFile = "none";  // the environment has the token
  std::string token() const { return house_.state() + "/join-token"; }
  std::vector<std::string> Command(const std::string& name, const std::vector<std::string>& more = {},
                                   std::string token_file = "") {
    Json spec = house_.Spec(name);
    spec["fault"]["hang_timeout"] = "10s";
    const std::string path = house_.folder() + "/" + name + ".json";
    std::ofstream(path) << spec.dump();
    std::vector<std::string> command{"mpirun",
                                     "-np",
                                     "2",
                                     "--bind-to",
                                     "none",
                                     PLATEAU_BIN_DIR "/plateau-worker",
                                     "train",
                                     path,
                                     "--coordinator",
                                     ReadEndpoints(house_.state())->link};
    if (token_file != kNoFile) command.insert(command.end(), {"--token", token_file.empty() ? token() : token_file});
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }
  std::string Log() { return fmt::format("{}/log-{}", house_.folder(), ++logs_); }
  void AwaitJob(const std::string& id, const Process& process) {
    ASSERT_TRUE(Eventually([&] { return house_.Api().Get(JobPath(id)).has_value(); })) << process.Output();
  }
  // The weights at the end, and every decision.
  std::string Outcome(const std::string& id) {
    const Json job = house_.Job(id);
    EXPECT_EQ(job["state"], "COMPLETED") << job.dump(1);
    std::string outcome = house_.FinalModel(job);
    EXPECT_GT(outcome.size(), 1000u);
    const Json history = house_.History(id);
    for (const auto& decision : history["decisions"])
      outcome += fmt::format("{} {};", decision["value"].dump(), decision["action"].dump());
    return outcome;
  }
  std::string Undisturbed() {
    const std::string id = house_.Submit(house_.Spec("calm"));
    house_.AwaitEnd(id);
    return Outcome(id);
  }

  House house_;
  int logs_ = 0;
};

TEST_F(OwnMpirun, RegistersAsAJobAndGivesTheBitsOfASubmittedOne) {
  struct stat info {};
  ASSERT_EQ(::stat(token().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u) << "the token lets its reader run jobs";
  Process process(Command("own"), Log());
  EXPECT_EQ(process.Wait(), 0) << process.Output();
  EXPECT_THAT(process.Output(), HasSubstr("as job own-1 attempt 1"));
  const Json job = house_.Job("own-1");
  EXPECT_EQ(job["reason"], "MAX_STEPS");
  ASSERT_EQ(job["attempts"].size(), 1u);
  EXPECT_EQ(job["attempts"][0]["external"], true);
  EXPECT_TRUE(house_.HadEvent("own-1", "registered"));
  EXPECT_EQ(Outcome("own-1"), Undisturbed());
}

TEST_F(OwnMpirun, AKilledRankEndsTheAttemptAndTheSameCommandWithTheJobGoesOnToTheSameBits) {
  {
    Process process(Command("own"), Log());
    AwaitJob("own-1", process);
    ASSERT_FALSE(House::Ended(house_.AwaitCheckpoint("own-1"))) << "too late to prove anything";
    const auto ranks = process.Children();
    ASSERT_EQ(ranks.size(), 2u);
    ASSERT_EQ(::kill(ranks[1], SIGKILL), 0);
    EXPECT_NE(process.Wait(), 0);
  }
  const Json failed = house_.AwaitEnd("own-1");
  EXPECT_EQ(failed["state"], "FAILED");
  EXPECT_EQ(failed["restarts"], 0) << "the coordinator cannot start what it did not start";
  EXPECT_THAT(failed["message"].get<std::string>(), HasSubstr("--job own-1"));
  const Ran resume = RunPlateau("resume --state " + house_.state() + " own-1");
  EXPECT_EQ(resume.code, 1);
  EXPECT_THAT(resume.out, HasSubstr("--job own-1"));

  Process again(Command("own", {"--job", "own-1"}), Log());
  EXPECT_EQ(again.Wait(), 0) << again.Output();
  EXPECT_EQ(house_.Job("own-1")["attempts"].size(), 2u);
  EXPECT_EQ(Outcome("own-1"), Undisturbed());
}

TEST_F(OwnMpirun, ACancelIsObeyedWithACheckpointAndAWrongTokenIsRefused) {
  const std::string wrong = house_.folder() + "/wrong";
  std::ofstream(wrong) << "0123456789abcdef0123456789abcdef\n";
  Process stranger(Command("own", {}, wrong), Log());
  EXPECT_EQ(stranger.Wait(), 1);
  EXPECT_THAT(stranger.Output(), HasSubstr("join token"));
  const auto refused = [&](const char* variable, int code) {
    if (variable != nullptr) ::setenv("PLATEAU_TOKEN", variable, 1);
    Process unnamed(Command("own", {}, kNoFile), Log());
    EXPECT_EQ(unnamed.Wait(), code) << unnamed.Output();
    ::unsetenv("PLATEAU_TOKEN");
    return unnamed.Output();
  };
  EXPECT_THAT(refused("0123456789abcdef0123456789abcdef", 1), HasSubstr("(no --token was given: $PLATEAU_TOKEN was sent)"));
  EXPECT_THAT(refused(nullptr, 2), HasSubstr("the coordinator's join token is missing; give --token FILE"));
  EXPECT_TRUE((*house_.Api().Get("/v1/jobs"))["jobs"].empty());

  std::string right = ReadText(token());
  right.erase(right.find_last_not_of('\n') + 1);
  ::setenv("PLATEAU_TOKEN", right.c_str(), 1);
  Process process(Command("own", {}, kNoFile), Log());
  ::unsetenv("PLATEAU_TOKEN");
  AwaitJob("own-1", process);
  ASSERT_FALSE(House::Ended(house_.AwaitCheckpoint("own-1"))) << "too late to prove anything";
  const Ran cancel = RunPlateau("cancel --follow --state " + house_.state() + " own-1");
  EXPECT_EQ(cancel.code, 0) << cancel.out;
  EXPECT_EQ(process.Wait(), 0) << process.Output();
  EXPECT_THAT(process.Output(), HasSubstr("STOPPED"));
  EXPECT_EQ(house_.Job("own-1")["state"], "CANCELLED");
}

}  // namespace
}  // namespace plateau::test
