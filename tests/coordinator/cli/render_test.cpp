// What the command line draws: tables, the live view, figures, and colours only where they belong.
#include "coordinator/cli/job_view.h"

#include <cstdlib>
#include <fcntl.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

Json RunningJob() {
  return Json::parse(R"({"id":"a-1","name":"a","state":"RUNNING","reason":"","message":"","created":"2026-11-22T06:00:00.000Z",
    "started":"2026-11-22T06:00:00.000Z","ended":null,"priority":50,"network":"vgg-a","step":100,"max_steps":null,"epoch":2.5,"max_epochs":10,
    "loss":2.5,"lr":0.01,"images_per_s":64,"best":{"metric":"val_top1_error","value":0.5,"validation":2,"step":80},"attempt":1,"restarts":0,
    "max_restarts":5,"checkpoint":null,"output":"/runs/a-1","workers":[{"rank":0,"host":"n1","pid":7,"step":100,"phase":"forward",
    "heartbeat_age_s":0.25}],"attempts":[],"spec":{"training":{"global_batch":32}}})");
}

TEST(JobView, ReadsNullsAsUnknown) {
  Json json = RunningJob();
  json["loss"] = nullptr;
  json["best"] = nullptr;
  const JobView job = ReadJobView(json);
  EXPECT_FALSE(job.loss.has_value());
  EXPECT_FALSE(job.best.has_value());
  EXPECT_EQ(job.max_steps, 0);
  EXPECT_EQ(job.workers.at(0).phase, "forward");
  EXPECT_THAT(RenderJobs(Style{}, {job}, 0), HasSubstr("a-1"));
}

TEST(JobView, RemainingTimeComesFromTheShareAndTheRate) {
  const JobView job = ReadJobView(RunningJob());
  EXPECT_DOUBLE_EQ(job.Share(), 0.25);
  EXPECT_DOUBLE_EQ(job.RemainingSeconds(), 300 * 32 / 64.0);  // 100 of 400 steps are done
  Json limited = RunningJob();
  limited["max_steps"] = 200;
  EXPECT_DOUBLE_EQ(ReadJobView(limited).Share(), 0.5);  // the nearer end counts
}

TEST(JobView, GpusStandWithTheRanksAndTheDevice) {
  Json json = RunningJob();
  json["device"] = "cuda";
  json["workers"][0]["gpu"] = "GPU-7f";
  json["attempts"] = Json::parse(
      R"([{"number":1,"state":"RUNNING","nodes":[{"node":"n1","workers":2,"gpus":["0","3"]},{"node":"n2","workers":1,"gpus":["1"]}]}])");
  const std::string page = RenderJob(Style{}, ReadJobView(json), {}, {}, 0);
  EXPECT_THAT(page, HasSubstr("cuda (n1: GPUs 0,3; n2: GPU 1)"));
  EXPECT_THAT(page, HasSubstr("GPU-7f"));
  EXPECT_THAT(RenderJob(Style{}, ReadJobView(RunningJob()), {}, {}, 0), Not(HasSubstr("cuda")));
}

TEST(JobView, WhatAutoCameToStandsWithItsReason) {
  Json json = RunningJob();
  json["device"] = "cpu";
  EXPECT_THAT(RenderJob(Style{}, ReadJobView(json), {}, {}, 0), Not(HasSubstr("auto")));
  json["device_why"] = "device: auto takes the CPU: the node has no GPU";
  EXPECT_THAT(RenderJob(Style{}, ReadJobView(json), {}, {}, 0),
              HasSubstr("device      cpu\n              device: auto takes the CPU: the node has no GPU\n"));
}

TEST(JobView, TimeIsThatOfItsAttemptsAndNotOfPauses) {
  Json json = RunningJob();
  const int64_t later_ms = ParseUtcMs("2026-11-23T06:00:00.000Z");
  EXPECT_EQ(TimeText(ReadJobView(json), later_ms), "1d 00h") << "an earlier coordinator does not tell";
  json["ran_in_all_s"] = 75;
  EXPECT_EQ(TimeText(ReadJobView(json), later_ms), "1m 15s");
  EXPECT_THAT(RenderJobs(Style{}, {ReadJobView(json)}, later_ms), HasSubstr("1m 15s"));
  EXPECT_THAT(RenderJob(Style{}, ReadJobView(json), {}, {}, later_ms), HasSubstr("time        1m 15s\n"));
  json["started"] = nullptr;
  json["ran_in_all_s"] = 0;
  EXPECT_EQ(TimeText(ReadJobView(json), later_ms), "-");
}

TEST(JobView, ExitCodeSaysHowTheJobEnded) {
  JobView job;
  job.state = "COMPLETED";
  EXPECT_EQ(job.ExitCode(), 0);
  job.state = "CANCELLED";
  EXPECT_EQ(job.ExitCode(), 1);
  job.state = "FAILED";
  EXPECT_EQ(job.ExitCode(), 1);
  job.reason = "NAN_LOSS";
  EXPECT_EQ(job.ExitCode(), 3);
}

TEST(Render, PlainStyleHasNoEscapes) {
  const JobView job = ReadJobView(RunningJob());
  const std::string text = RenderJobs(Style{}, {job}, ParseUtcMs("2026-11-22T06:01:00.000Z")) + RenderJob(Style{}, job, {}, {}, 0);
  EXPECT_THAT(text, Not(HasSubstr("\033")));
  EXPECT_THAT(text, HasSubstr("1m 00s"));
  EXPECT_THAT(text, HasSubstr("50.00%"));
}

TEST(Render, LiveViewStaysWithinTheTerminal) {
  const Style narrow{.terminal = true, .colour = true, .unicode = true, .columns = 50};
  const std::vector<ValidationRow> validations{{1, 40, 1, 0.9, 0.5, 2}, {2, 80, 2, 0.5, 0.2, 1}};
  const auto lines = RenderLive(narrow, ReadJobView(RunningJob()), validations,
                                {{1, "2026-11-22T06:03:41.123Z", "lr_decision", std::string(200, 'x')}});
  std::vector<size_t> widths;
  for (const auto& line : lines) widths.push_back(VisibleWidth(line));
  EXPECT_THAT(widths, Each(::testing::Le(50u)));
  EXPECT_THAT(lines.back(), HasSubstr("06:03:41"));
}

TEST(Render, DecisionsShowTheirReasonsAndCanBeCutToChanges) {
  const Json history = Json::parse(R"({"metric":"val_top1_error","decisions":[
    {"validation":1,"step":10,"epoch":1,"value":0.5,"action":"keep","lr":0.01,"improved":true,"reason":"improved"},
    {"validation":2,"step":20,"epoch":2,"value":0.5,"action":"decay","lr":0.001,"improved":false,"reason":"a plateau"}]})");
  const std::string all = RenderDecisions(Style{}, "val_top1_error", ReadDecisions(history), false);
  EXPECT_THAT(all, HasSubstr("improved"));
  EXPECT_THAT(all, HasSubstr("a plateau"));
  EXPECT_THAT(RenderDecisions(Style{}, "val_top1_error", ReadDecisions(history), true), Not(HasSubstr("improved")));
}

TEST(Terminal, WidthsCountCharactersNotBytesOrEscapes) {
  EXPECT_EQ(VisibleWidth("\033[31mé█x\033[0m"), 3u);
  EXPECT_EQ(CutVisible("é█xyz", 2), "é█");
  EXPECT_EQ(CutVisible("\033[31mabc\033[0m", 2), "\033[31mab\033[0m");
  EXPECT_EQ(Bar(Style{}, 0.5, 10), "[#####.....]");
  EXPECT_EQ(Bar(Style{}, 7, 3), "[###]");
  EXPECT_EQ(Sparkline(Style{.unicode = true}, {0, 1}, 8), "▁█");
  EXPECT_EQ(Sparkline(Style{}, {0, 1}, 8), "");
}

TEST(Terminal, FiguresAreShort) {
  EXPECT_EQ(Grouped(1234567), "1,234,567");
  EXPECT_EQ(Grouped(-123), "-123");
  EXPECT_EQ(Figure(1e-5), "1e-05");
  EXPECT_EQ(Percent(0.361), "36.10%");
  EXPECT_EQ(MetricText("val_loss", 2.5), "2.5");
  EXPECT_EQ(ParseUtcMs("1970-01-01T00:00:01.500Z"), 1500);
  EXPECT_EQ(ParseUtcMs("soon"), -1);
}

TEST(Terminal, ColoursNeedATerminalThatShowsThemAndAUserWhoWantsThem) {
  EXPECT_TRUE(WantsColour(true, "xterm", nullptr));
  EXPECT_TRUE(WantsColour(true, "xterm", ""));
  EXPECT_FALSE(WantsColour(false, "xterm", nullptr));
  EXPECT_FALSE(WantsColour(true, "xterm", "1"));
  EXPECT_FALSE(WantsColour(true, "dumb", nullptr));
  EXPECT_FALSE(WantsColour(true, nullptr, nullptr));
}

TEST(Terminal, ColoursOnlyOnATerminalAndNotWithNoColor) {
  int pipe_ends[2];
  ASSERT_EQ(::pipe(pipe_ends), 0);
  EXPECT_FALSE(DetectStyle(pipe_ends[1]).colour);
  EXPECT_FALSE(DetectStyle(pipe_ends[1]).terminal);
  ::close(pipe_ends[0]);
  ::close(pipe_ends[1]);
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0) return;  // a machine without /dev/ptmx: the decision itself is tested above
  ::setenv("TERM", "xterm", 1);
  ::unsetenv("NO_COLOR");
  EXPECT_TRUE(DetectStyle(terminal).terminal);
  EXPECT_TRUE(DetectStyle(terminal).colour);
  ::setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(DetectStyle(terminal).colour);
  ::close(terminal);
}

}  // namespace
}  // namespace plateau
