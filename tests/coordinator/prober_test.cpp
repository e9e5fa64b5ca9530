// Asking hosts through an agent that is a script: what counts as an answer, bounds, and many at once.
#include "coordinator/node/prober.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sys/stat.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/polling.h"
#include "tests/support/temp_folder.h"

namespace plateau::test {
namespace {

using ::testing::HasSubstr;

class ProberTest : public ::testing::Test {
 protected:
  // The agent is run as SCRIPT HOST COMMAND.
  std::unique_ptr<AgentProber> Start(const std::string& script, int64_t timeout_ms = 20'000) {
    const std::string path = folder_.path() + "/agent";
    std::ofstream(path) << "#!/bin/bash\n" << script << "\n";
    ::chmod(path.c_str(), 0755);
    return std::make_unique<AgentProber>(
        AgentProberOptions{.agent = path, .worker = worker_, .timeout_ms = timeout_ms, .max_at_once = 4},
        [this](const ProbeAnswer& answer) {
          const std::lock_guard lock(mutex_);
          answers_[answer.node] = answer;
        });
  }
  bool Has(const std::string& node) {
    return Eventually([&] {
      const std::lock_guard lock(mutex_);
      return answers_.contains(node);
    });
  }

  TempFolder folder_;
  std::string worker_;
  std::mutex mutex_;
  std::map<std::string, ProbeAnswer> answers_;  // guarded by mutex_
};

TEST_F(ProberTest, AHostAnswersWithItsCores) {
  const auto prober = Start("[ \"$1\" = n1 ] || exit 9\neval \"$2\"");
  prober->Probe("n1");
  ASSERT_TRUE(Has("n1"));
  EXPECT_TRUE(answers_["n1"].answered) << answers_["n1"].message;
  EXPECT_GE(answers_["n1"].cores, 1) << "lscpu of this machine";
}

TEST_F(ProberTest, AHostTellsItsGpusThroughTheWorkerProgram) {
  const std::string worker = folder_.path() + "/it's a worker";
  std::ofstream(worker) << "#!/bin/bash\n[ \"$*\" = 'devices --json' ] || exit 9\necho chatter\necho '"
                        << GpuReportLine({{{"3", "NVIDIA H200", 1 << 30}}, ""}) << "'\n";
  ::chmod(worker.c_str(), 0755);
  worker_ = worker;
  const auto prober = Start("[ \"$1\" = n1 ] || exit 9\neval \"$2\"");
  for (const char* node : {"n1", kLocalNode}) {
    prober->Probe(node);
    ASSERT_TRUE(Has(node));
    EXPECT_TRUE(answers_[node].answered) << answers_[node].message;
    ASSERT_TRUE(answers_[node].gpus.has_value());
    EXPECT_THAT(answers_[node].gpus->gpus, ::testing::ElementsAre(Gpu{"3", "NVIDIA H200", 1 << 30}));
  }
  EXPECT_GE(answers_["n1"].cores, 1);
}

TEST_F(ProberTest, AHostWhoseWorkerIsMissingAnswersWithoutAReportAndSaysWhy) {
  worker_ = "/nowhere/plateau-worker";
  const auto prober = Start("eval \"$2\"");
  prober->Probe("n1");
  ASSERT_TRUE(Has("n1"));
  EXPECT_TRUE(answers_["n1"].answered) << answers_["n1"].message;
  EXPECT_GE(answers_["n1"].cores, 1);
  EXPECT_FALSE(answers_["n1"].gpus.has_value());
  EXPECT_THAT(answers_["n1"].no_report, HasSubstr("/nowhere/plateau-worker"));
  EXPECT_THAT(answers_["n1"].no_report, HasSubstr("No such file"));
}

TEST_F(ProberTest, AWorkerThatHangsLeavesItsHostWithoutAReportAndIsNamed) {
  worker_ = "/bin/false";
  const auto prober =
      Start("timeout() { return 124; }; export -f timeout; eval \"${2/sh -c/bash -c}\"");  // its time is over at once
  prober->Probe("n1");
  ASSERT_TRUE(Has("n1"));
  EXPECT_TRUE(answers_["n1"].answered) << answers_["n1"].message;
  EXPECT_FALSE(answers_["n1"].gpus.has_value());
  EXPECT_THAT(answers_["n1"].no_report, HasSubstr("no answer within 20 s"));
}

// A process that waits for a driver cannot be ended: timeout's limit passes, and the agent runs on.
TEST_F(ProberTest, AHostThatHangsOverItsGpusAloneHasAnswered) {
  worker_ = "/opt/plateau-worker";
  const auto prober = Start("echo 0,0; echo 1,0; exec tail -f /dev/null", 5'000);
  prober->Probe("n1");
  ASSERT_TRUE(Has("n1"));
  EXPECT_TRUE(answers_["n1"].answered) << answers_["n1"].message;
  EXPECT_EQ(answers_["n1"].cores, 2);
  EXPECT_FALSE(answers_["n1"].gpus.has_value());
  EXPECT_THAT(answers_["n1"].no_report, HasSubstr("`/opt/plateau-worker devices` told nothing there: no answer within 5 s"));
}

TEST(ProbeQuestion, LeavesNothingButWordsToALoginShell) {
  EXPECT_EQ(ProbeQuestion("", false), "lscpu -p=CORE,SOCKET");
  const std::string question = ProbeQuestion("/opt/plateau/bin/plateau-worker", false);
  const std::string front = question.substr(0, question.find('\''));
  EXPECT_EQ(front, "lscpu -p=CORE,SOCKET && sh -c ") << "fish takes (...) for a substitution, and the host would count as lost";
}

TEST_F(ProberTest, AFailureSaysWhatTheAgentSaid) {
  const auto prober = Start("echo connecting\necho \"ssh: connect to host $1: No route to host\" >&2\nexit 255");
  prober->Probe("n2");
  ASSERT_TRUE(Has("n2"));
  EXPECT_FALSE(answers_["n2"].answered);
  EXPECT_FALSE(answers_["n2"].timed_out) << "it is known to have failed";
  EXPECT_THAT(answers_["n2"].message, HasSubstr("connect to host n2: No route to host"));
}

TEST_F(ProberTest, AnAgentThatHangsIsKilledWithItsChildren) {
  const std::string pid_file = folder_.path() + "/child";
  const auto prober = Start("sleep 1000 & echo $! > " + pid_file + ".tmp; mv " + pid_file + ".tmp " + pid_file + "; wait", 500);
  prober->Probe("n3");
  ASSERT_TRUE(Has("n3"));
  EXPECT_TRUE(answers_["n3"].timed_out);
  EXPECT_THAT(answers_["n3"].message, HasSubstr("no answer within"));
  pid_t child = 0;
  if (std::ifstream(pid_file) >> child) {
    EXPECT_TRUE(Eventually([&] {
      std::ifstream stat("/proc/" + std::to_string(child) + "/stat");
      std::string pid, name, state;
      return !(stat >> pid >> name >> state) || state == "Z";
    })) << "its child runs on";
  }
}

TEST_F(ProberTest, ManyHostsAreAskedWithinTheBound) {
  const auto prober = Start("echo 0,0; echo 1,0; echo 0,0");
  for (int i = 0; i < 20; ++i) prober->Probe("n" + std::to_string(i));
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(Has("n" + std::to_string(i)));
  EXPECT_EQ(answers_["n19"].cores, 2) << "hardware threads of one core count once";
}

TEST_F(ProberTest, AnAgentThatIsNotThereSaysSo) {
  AgentProber prober({.agent = "/nowhere/agent -x"}, [this](const ProbeAnswer& answer) {
    const std::lock_guard lock(mutex_);
    answers_[answer.node] = answer;
  });
  prober.Probe("n1");
  ASSERT_TRUE(Has("n1"));
  EXPECT_THAT(answers_["n1"].message, HasSubstr("/nowhere/agent"));
}

TEST_F(ProberTest, EndingItDoesNotWaitForAnAnswer) {
  auto prober = Start("exec sleep 1000");
  prober->Probe("n1");
  prober.reset();  // a test that hangs here fails by its time limit
  EXPECT_TRUE(answers_.empty());
}

TEST(AgentCommand, PlainSshNeverAsksForAPassword) {
  EXPECT_THAT(AgentCommand("ssh"), HasSubstr("BatchMode=yes"));
  EXPECT_EQ(AgentCommand("ssh -i key"), "ssh -i key");
}

}  // namespace
}  // namespace plateau::test
