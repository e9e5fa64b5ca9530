// A whole coordinator asked over ZeroMQ: the answers of REST, `plateau --endpoint tcp://`, and the example of API.md.
#include <cstdlib>
#include <fstream>
#include <future>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/cli/zmq_client.h"
#include "tests/support/coordinator_daemon.h"
#include "tests/support/house.h"
#include "tests/support/zmq_client.h"

namespace plateau::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const plateau::Heartbeat kBeat{.step = 1, .phase = "data"};

// The job's end as its only rank and mpirun's script play it.
void FinishJob(const CoordinatorHome& home, FakeRank& rank) {
  rank.Ask(Finished{20, "MAX_EPOCHS"});
  home.Write("go", "");
}

class ZmqDoor : public ::testing::Test {
 protected:
  ZmqDoor() {
    home_.Script("mpirun",
                 "echo hello > $PLATEAU_LOG_DIR/rank-0.log; while [ ! -e " + home_.path("go") + " ]; do sleep 0.02; done");
    daemon_ = home_.Start();
    endpoint_ = daemon_->zmq_endpoint();
  }
  std::string SpecFile() {
    home_.Write("job.json", home_.Spec().dump());
    return home_.path("job.json");
  }

  CoordinatorHome home_;
  std::unique_ptr<Daemon> daemon_;
  std::string endpoint_;
};

TEST_F(ZmqDoor, AnswersAreThoseOfRest) {
  RawZmq client(endpoint_);
  const auto created = client.Ask(
      {{"id", 1}, {"method", "POST"}, {"path", "/v1/jobs"}, {"body", home_.Spec()}, {"headers", {{"Idempotency-Key", "k"}}}});
  ASSERT_EQ(created.at("status"), 201) << created.dump();
  EXPECT_EQ(created.at("headers").at("Location"), "/v1/jobs/small-1");
  EXPECT_EQ(created.at("body").at("id"), "small-1");
  EXPECT_EQ(client.Ask({{"method", "POST"}, {"path", "/v1/jobs"}, {"body", home_.Spec()}, {"headers", {{"Idempotency-Key", "k"}}}})
                .at("status"),
            200);
  FakeRank rank(home_, *daemon_, "small-1", 1);
  rank.Ask(kBeat);
  for (const char* path : {"/v1/jobs/small-1/events", "/v1/jobs/small-1/lr-history", "/v1/jobs/small-1/metrics",
                           "/v1/jobs/small-1/logs?list=1", "/v1/jobs/absent-1", "/v1/nothing", "/v1/jobs/small-1/events?wait=x"}) {
    RawHttp http(daemon_->http_endpoint());
    const auto rest = http.Ask("GET", path);
    const auto answer = client.Ask({{"path", path}});
    EXPECT_EQ(answer.at("status"), rest.status) << path;
    EXPECT_EQ(answer.at("body"), json::parse(rest.body)) << path;
  }
  EXPECT_TRUE(Eventually([&] { return client.Ask({{"path", "/v1/jobs/small-1/logs"}}).value("body", json()) == "hello\n"; }));
  EXPECT_EQ(client.Ask({{"path", "/v1/jobs/small-1/logs"}, {"query", {{"offset", 2}}}}).at("headers").at("Plateau-Next-Offset"),
            "6");
  EXPECT_EQ(client.Ask({{"method", "PUT"}, {"path", "/v1/jobs"}}).at("status"), 405);
  EXPECT_EQ(client.Ask({{"method", "POST"}, {"path", "/v1/jobs"}, {"body", "x: 1"}}).at("status"), 415);
  EXPECT_EQ(client.Ask({{"method", "POST"}, {"path", "/v1/jobs/small-1/cancel"}}).at("status"), 202);
}

TEST_F(ZmqDoor, ALongPollHoldsNothingUp) {
  RawZmq client(endpoint_);
  client.Ask({{"method", "POST"}, {"path", "/v1/jobs"}, {"body", home_.Spec()}});
  FakeRank rank(home_, *daemon_, "small-1", 1);
  ASSERT_TRUE(Eventually([&] { return GetJson(*daemon_, "/v1/jobs/small-1/events").at("last") == 3; }));
  client.Send(json{{"id", "poll"}, {"path", "/v1/jobs/small-1/events?after=3&wait=60"}});
  EXPECT_EQ(client.Ask({{"id", "quick"}, {"path", "/healthz"}}).at("id"), "quick");
  rank.Ask(kBeat);
  const auto poll = client.Receive();
  EXPECT_EQ(poll.at("id"), "poll");
  EXPECT_EQ(poll.at("body").at("events")[0].at("type"), "running");
}

TEST_F(ZmqDoor, TheCommandLineSpeaksItForEveryCommand) {
  const std::string at = " --endpoint " + endpoint_;
  auto followed = std::async(std::launch::async, [&, file = SpecFile()] { return RunPlateau("submit --follow " + file + at); });
  FakeRank rank(home_, *daemon_, "small-1", 1);
  rank.Ask(kBeat);
  ASSERT_TRUE(Eventually([&] { return RunPlateau("logs last" + at).out == "hello\n"; }));
  auto log = std::async(std::launch::async, [&] { return RunPlateau("logs -f last" + at); });
  for (const char* command : {"jobs", "show last", "lr last", "watch last --until-step 0", "logs last", "logs last --list"}) {
    const Ran ran = RunPlateau(command + at);
    EXPECT_EQ(ran.code, 0) << command << ": " << ran.out;
  }
  auto checkpoint = std::async(std::launch::async, [&] { return RunPlateau("checkpoint last" + at); });
  int64_t order = 0;
  ASSERT_TRUE(Eventually([&] { return (order = std::get<HeartbeatReply>(rank.Ask(kBeat)).order) > 0; }));
  home_.Write("runs/small-1/attempt-1/step-000000020/manifest.json", "{}");
  rank.Ask(CheckpointReport{.step = 20, .path = "attempt-1/step-000000020", .bytes = 2, .order = order});
  EXPECT_EQ(checkpoint.get().out, home_.path("runs/small-1/attempt-1/step-000000020") + "\n");
  const Ran refused = RunPlateau("resume last" + at);
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.out, HasSubstr("FAILED, CANCELLED or PAUSED"));
  FinishJob(home_, rank);
  const Ran watched = followed.get();
  EXPECT_EQ(watched.code, 0) << watched.out;
  EXPECT_THAT(watched.out, HasSubstr("small-1 is COMPLETED: MAX_EPOCHS"));
  EXPECT_EQ(log.get().out, "hello\n");
}

TEST_F(ZmqDoor, TheClientSaysWhoIsNotThere) {
  const auto ask = [](const std::string& url) {
    ClientRequest request;
    request.target = "/healthz";
    return SendZmq(ParseEndpoint(url).value(), request);
  };
  const auto fine = ask(endpoint_);
  ASSERT_TRUE(fine.has_value()) << fine.error().message;
  EXPECT_EQ(fine->status, 200);
  const auto nobody = ask("tcp://127.0.0.1:1");
  ASSERT_FALSE(nobody.has_value());
  EXPECT_EQ(nobody.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(nobody.error().message, HasSubstr("no coordinator at tcp://127.0.0.1:1"));
  const auto http = ask("tcp" + daemon_->http_endpoint().substr(4));
  ASSERT_FALSE(http.has_value());
  EXPECT_THAT(http.error().message, HasSubstr("does not speak ZeroMQ"));
}

TEST_F(ZmqDoor, AClientThatWaitsIsToldWhenTheCoordinatorGoes) {
  RawZmq(endpoint_).Ask({{"method", "POST"}, {"path", "/v1/jobs"}, {"body", home_.Spec()}});
  ASSERT_TRUE(Eventually([&] { return GetJson(*daemon_, "/v1/jobs/small-1/events").at("last") == 3; }));
  auto waiting = std::async(std::launch::async, [&] {
    ClientRequest request;
    request.target = "/v1/jobs/small-1/events?after=3&wait=60";
    request.timeout_ms = 90'000;
    return SendZmq(ParseEndpoint(endpoint_).value(), request);
  });
  RawZmq(endpoint_).Ask({{"path", "/healthz"}});
  daemon_.reset();
  const auto answer = waiting.get();
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().code, ErrorCode::kUnavailable);
}

// The first block of Python below "## ZeroMQ" in API.md.
std::string Example() {
  std::ifstream file(PLATEAU_SOURCE_DIR "/coordinator/API.md");
  std::ostringstream all;
  all << file.rdbuf();
  const std::string page = all.str();
  const size_t section = page.find("## ZeroMQ"), begin = page.find("```python\n", section), end = page.find("```\n", begin + 10);
  EXPECT_NE(end, std::string::npos);
  return page.substr(begin + 10, end - begin - 10);
}

// A Python that knows ZeroMQ: the one on PATH may be another than the system's. Empty: there is none.
std::string PythonWithZmq() {
  for (const std::string python : {"python3", "/usr/bin/python3"})
    if (std::system((python + " -c 'import zmq' 2>/dev/null").c_str()) == 0) return python;
  return {};
}

TEST_F(ZmqDoor, TheExampleOfThePageWorks) {
  const std::string python = PythonWithZmq();
  ASSERT_FALSE(python.empty()) << "no python3 here has zmq; deploy/install-deps.sh installs python3-zmq";
  home_.Write("example.py", Example());
  auto ran = std::async(std::launch::async, [&] {
    Ran run;
    FILE* pipe = ::popen((python + " " + home_.path("example.py") + " " + endpoint_ + " " + SpecFile() + " 2>&1").c_str(), "r");
    std::array<char, 4096> buffer;
    while (const size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe)) run.out.append(buffer.data(), n);
    const int status = ::pclose(pipe);
    run.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return run;
  });
  FakeRank rank(home_, *daemon_, "small-1", 1);
  rank.Ask(kBeat);
  FinishJob(home_, rank);
  const Ran run = ran.get();
  EXPECT_EQ(run.code, 0) << run.out;
  EXPECT_THAT(run.out, HasSubstr("submitted"));
  EXPECT_THAT(run.out, HasSubstr("COMPLETED"));
  const Ran again = RunPlateau("jobs --endpoint " + endpoint_);
  EXPECT_THAT(again.out, HasSubstr("small-1"));
}

}  // namespace
}  // namespace plateau::test
