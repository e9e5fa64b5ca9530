// The program `plateau` itself against a fake coordinator: exit codes, output, --json.
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/fake_http_server.h"

namespace plateau {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct Ran {
  int code = -1;
  std::string out;  // stdout and stderr
};

Ran Plateau(const std::string& arguments) {
  Ran run;
  FILE* pipe = ::popen((PLATEAU_BIN_DIR "/plateau " + arguments + " 2>&1").c_str(), "r");
  std::array<char, 4096> buffer;
  while (const size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe)) run.out.append(buffer.data(), n);
  const int status = ::pclose(pipe);
  run.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return run;
}

// One job, a-1, that is `state`; its events come at once.
FakeAnswer OneJob(const FakeRequest& request, const std::string& state, const std::string& reason) {
  const std::string job = R"({"id":"a-1","name":"a","state":")" + state + R"(","reason":")" + reason +
                          R"(","message":"why","network":"vgg-a","step":57,"epoch":1,"max_epochs":2,"output":"/runs/a-1"})";
  if (request.method == "POST") return {request.target.starts_with("/v1/jobs/") ? 202 : 201, job, ""};
  if (request.target == "/v1/jobs") return {200, R"({"jobs":[)" + job + "]}", ""};
  if (request.target.find("/events?after=1") != std::string::npos) return {200, R"({"events":[],"last":1})", ""};
  if (request.target.find("/events") != std::string::npos)
    return {200, R"({"events":[{"seq":1,"time":"2026-11-22T06:03:41.123Z","type":"submitted","message":"hello"}],"last":1})", ""};
  if (request.target.find("/logs") != std::string::npos) {
    const bool first = request.target.find("offset=0") != std::string::npos;
    return {200, first ? "line one\n" : "", "Plateau-Next-Offset: 9\r\nPlateau-Attempt: 1\r\n"};
  }
  return {200, job, ""};
}

class CliProgram : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "plateau-cli-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    spec_ = folder_ + "/job.yaml";
    std::ofstream(spec_) << "version: 1\nkind: train\nname: a\noutput: runs\nmodel: {network: vgg-a}\ndata: {store: set}\n";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string folder_, spec_;
};

// Whether there is a plateau-worker or not, its message names what it was given.
TEST_F(CliProgram, AJobStandsForItsRunFolderInVerbsOfTheWorker) {
  FakeHttpServer server([](const FakeRequest& request) { return OneJob(request, "COMPLETED", ""); });
  ::setenv("PLATEAU_ENDPOINT", server.Url().c_str(), 1);
  const Ran run = Plateau("export a --out " + folder_ + "/w");
  const auto asked = server.Requests();
  const Ran path = Plateau("export " + folder_ + "/none --out " + folder_ + "/w");
  ::unsetenv("PLATEAU_ENDPOINT");
  EXPECT_NE(run.code, 0);
  ASSERT_FALSE(asked.empty());
  EXPECT_EQ(asked.back().target, "/v1/jobs/a-1");
  EXPECT_EQ(server.Requests().size(), asked.size()) << "a path needs no coordinator";
}

TEST_F(CliProgram, SubmitEditsTheSpecAndSendsAbsolutePaths) {
  FakeHttpServer server([](const FakeRequest& request) { return OneJob(request, "QUEUED", ""); });
  const Ran run =
      Plateau("submit " + spec_ +
              " --set training.max_epochs=3 --set data.augment.flip=false --force --idempotency-key k1 --endpoint " + server.Url());
  EXPECT_EQ(run.code, 0) << run.out;
  EXPECT_THAT(run.out, HasSubstr("a-1 is QUEUED"));
  const auto requests = server.Requests();
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].target, "/v1/jobs?force=true");
  EXPECT_EQ(requests[0].headers.at("Idempotency-Key"), "k1");
  const auto body = nlohmann::json::parse(requests[0].body);
  EXPECT_EQ(body["training"]["max_epochs"], 3);
  EXPECT_EQ(body["data"]["augment"]["flip"], false);
  EXPECT_EQ(body["data"]["store"], std::filesystem::current_path().string() + "/set");
}

// The coordinator speaks of a request's body; its user wrote a file and a command line.
TEST_F(CliProgram, ARefusedSpecNamesTheSettingOrTheFile) {
  FakeHttpServer server([](const FakeRequest& request) {
    const bool set = request.body.find("gpu") != std::string::npos;
    const std::string what = set ? R"(resources.device: \"gpu\" is not one of auto, cpu, cuda)" : "model.network: is empty";
    return FakeAnswer{422, R"({"title":"refused","detail":"request body: )" + what + R"("})", ""};
  });
  const Ran set = Plateau("submit " + spec_ + " --set resources.device=gpu --endpoint " + server.Url());
  EXPECT_EQ(set.code, 2);
  EXPECT_THAT(set.out, HasSubstr("plateau: --set resources.device=gpu: \"gpu\" is not one of auto, cpu, cuda"));
  EXPECT_THAT(Plateau("submit " + spec_ + " --endpoint " + server.Url()).out,
              HasSubstr("plateau: " + spec_ + ": model.network: is empty"));
}

TEST_F(CliProgram, FollowEndsWithTheExitCodeOfTheJob) {
  for (const auto& [state, reason, code] :
       {std::tuple("COMPLETED", "PLATEAU", 0), std::tuple("FAILED", "EXIT_137", 1), std::tuple("FAILED", "NAN_LOSS", 3),
        std::tuple("CANCELLED", "BY_USER", 1), std::tuple("PAUSED", "TIME_LIMIT", 1)}) {
    FakeHttpServer server(
        [&, state = state, reason = reason](const FakeRequest& request) { return OneJob(request, state, reason); });
    const Ran run = Plateau("submit " + spec_ + " --follow --endpoint " + server.Url());
    EXPECT_EQ(run.code, code) << run.out;
    EXPECT_THAT(run.out, HasSubstr("hello"));
    EXPECT_THAT(run.out, HasSubstr(std::string("a-1 is ") + state + ": " + reason));
    EXPECT_THAT(run.out, Not(HasSubstr("\033")));
  }
}

TEST_F(CliProgram, WatchReadsAllPagesOfALongHistoryAndShowsItsEnd) {
  FakeHttpServer server([](const FakeRequest& request) {
    const size_t at = request.target.find("after=");
    if (at == std::string::npos) return OneJob(request, "COMPLETED", "PLATEAU");
    const int after = std::stoi(request.target.substr(at + 6));
    if (after == 3) return FakeAnswer{200, R"({"events":[],"last":3})", ""};
    const std::string next = std::to_string(after + 1);
    return FakeAnswer{
        200,
        R"({"events":[{"seq":)" + next + R"(,"time":"","type":"running","message":"event )" + next + R"("}],"last":)" + next + "}",
        ""};
  });
  const Ran run = Plateau("watch a-1 --events 2 --endpoint " + server.Url());
  EXPECT_EQ(run.code, 0) << run.out;
  EXPECT_THAT(run.out, Not(HasSubstr("event 1")));
  EXPECT_THAT(run.out, HasSubstr("event 2"));
  EXPECT_THAT(run.out, HasSubstr("event 3"));
}

TEST_F(CliProgram, CtrlCLeavesTheJobRunningAndSaysHowToWatchAgain) {
  FakeHttpServer server([](const FakeRequest& request) {
    if (request.target.find("wait=10") != std::string::npos) ::usleep(100'000);
    return OneJob(request, "RUNNING", "");
  });
  const std::string out = folder_ + "/out", url = server.Url();
  const pid_t pid = ::fork();
  if (pid == 0) {
    FILE* file = std::freopen(out.c_str(), "w", stderr);
    ::execl(PLATEAU_BIN_DIR "/plateau", "plateau", "watch", "a", "--endpoint", url.c_str(), nullptr);
    ::_exit(file == nullptr ? 126 : 127);
  }
  while (server.Requests().size() < 4) ::usleep(10'000);  // it follows by now
  ::kill(pid, SIGINT);
  int status = 0;
  ::waitpid(pid, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 130);
  std::ifstream file(out);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  EXPECT_THAT(text, HasSubstr("plateau watch a-1"));
  for (const auto& request : server.Requests()) EXPECT_EQ(request.method, "GET") << request.target;
}

TEST_F(CliProgram, JsonIsOneDocumentOnStandardOutput) {
  FakeHttpServer server([](const FakeRequest& request) { return OneJob(request, "RUNNING", ""); });
  for (const char* command : {"jobs", "show last", "cancel a-1", "pause a", "resume a"}) {
    const Ran run = Plateau(std::string(command) + " --json --endpoint " + server.Url());
    EXPECT_EQ(run.code, 0);
    EXPECT_TRUE(nlohmann::json::accept(run.out)) << command << ": " << run.out;
  }
}

TEST_F(CliProgram, TheEndpointMayStandBeforeTheCommand) {
  FakeHttpServer server([](const FakeRequest& request) { return OneJob(request, "RUNNING", ""); });
  const Ran run = Plateau("--endpoint " + server.Url() + " show a-1");
  EXPECT_EQ(run.code, 0) << run.out;
  EXPECT_THAT(run.out, HasSubstr("a-1"));
}

TEST_F(CliProgram, LogsAreReadByOffsetUntilNothingIsLeft) {
  FakeHttpServer server([](const FakeRequest& request) { return OneJob(request, "COMPLETED", ""); });
  const Ran run = Plateau("logs last --rank 3 --follow --endpoint " + server.Url());
  EXPECT_EQ(run.code, 0);
  EXPECT_EQ(run.out, "line one\n");
  bool asked = false;
  for (const auto& request : server.Requests()) asked = asked || request.target.find("file=rank-3.log") != std::string::npos;
  EXPECT_TRUE(asked);
}

TEST_F(CliProgram, BadUsageLeavesWithTwoAndSaysWhatToWrite) {
  EXPECT_EQ(Plateau("submit").code, 2);
  EXPECT_EQ(Plateau("show").code, 2);
  EXPECT_EQ(Plateau("jobs --nonsense").code, 2);
  const Ran missing = Plateau("submit " + folder_ + "/none.yaml");
  EXPECT_EQ(missing.code, 2);
  EXPECT_THAT(missing.out, HasSubstr("none.yaml"));
  const Ran setting = Plateau("submit " + spec_ + " --set training.max_epochs");
  EXPECT_EQ(setting.code, 2);
  EXPECT_THAT(setting.out, HasSubstr("FIELD=VALUE"));
  const Ran slip = Plateau("sumbit " + spec_);
  EXPECT_EQ(slip.code, 2);
  EXPECT_THAT(slip.out, HasSubstr("did you mean submit"));
  const Ran alone = Plateau("dataset ingest --layout folder --train " + folder_ + " --out " + folder_ + "/store --workers 2");
  EXPECT_EQ(alone.code, 2);
  EXPECT_THAT(alone.out, HasSubstr("--coordinator"));
  const Ran away = Plateau("jobs --state " + folder_ + " --endpoint http://127.0.0.1:1");
  EXPECT_EQ(away.code, 1);
  EXPECT_THAT(away.out, HasSubstr("plateau up"));
}

TEST_F(CliProgram, UpRefusesGpusThatAreNoneBeforeItStartsAnything) {
  for (const char* offer : {"0,0", "x", "all"}) {
    const Ran run = Plateau("up --state " + folder_ + "/state --gpus " + offer);
    EXPECT_EQ(run.code, 2) << offer << run.out;
    EXPECT_THAT(run.out, AllOf(HasSubstr("--gpus: "), HasSubstr(offer)));
  }
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/state"));
}

TEST_F(CliProgram, DownDoesNotCallJobsCancelledThatAKilledCoordinatorLeft) {
  const std::string attempt = folder_ + "/jobs/a-1/attempt-1";
  std::filesystem::create_directories(attempt);
  std::ofstream(attempt + "/supervisor.json") << "{}";
  EXPECT_EQ(Plateau("down --state " + folder_).code, 0);
  const Ran refused = Plateau("down --cancel-jobs --state " + folder_);
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.out, HasSubstr("a-1 may still train"));
  std::ofstream(attempt + "/exit.json") << "{}";
  EXPECT_EQ(Plateau("down --cancel-jobs --state " + folder_).code, 0);
}

TEST_F(CliProgram, EveryCommandHasHelpWithExamples) {
  for (const char* command :
       {"up", "down", "submit", "jobs", "show", "watch", "logs", "lr", "cancel", "pause", "resume", "checkpoint"}) {
    const Ran run = Plateau(std::string(command) + " --help");
    EXPECT_EQ(run.code, 0);
    EXPECT_THAT(run.out, HasSubstr("Examples:")) << command;
  }
}

}  // namespace
}  // namespace plateau
