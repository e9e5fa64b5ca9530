// Pipelines on the command line: found by id or name, drawn, followed, and asked for a report of what is there.
#include "coordinator/cli/pipeline_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/safetensors.h"
#include "coordinator/cli/pipeline_follow.h"
#include "coordinator/cli/report_command.h"
#include "tests/support/fake_http_server.h"
#include "tests/support/temp_folder.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;
using ::testing::Not;

Json Summary(const std::string& id, const std::string& name, const std::string& state) {
  return {{"id", id}, {"name", name}, {"state", state}, {"created", "2026-11-22T13:55:11.215Z"}, {"ended", nullptr}, {"counts", {{"COMPLETED", 2}, {"HELD", 1}}}};
}

// A coordinator with two runs of "paper", one of "other", and the jobs of other-1.
FakeAnswer Answer(const FakeRequest& request) {
  const Json jobs = {{{"id", "other-1.t"}, {"kind", "evaluate"}, {"state", "COMPLETED"}, {"network", "vgg-a"}, {"pipeline", "other-1"}, {"output", "/absent"},
                      {"result", {{"images", 100}, {"correct1", 40}, {"correct5", 80}, {"top1_error", 0.6}, {"seconds", 2.5}, {"posteriors", "p.safetensors"}}},
                      {"depends_on", {{{"job", "other-1.a"}}}}, {"spec", {{"evaluate", {{"job", "other-1.a"}}}}}},
                     {{"id", "other-1.a"}, {"kind", "train"}, {"state", "COMPLETED"}, {"network", "vgg-a"}, {"pipeline", "other-1"}, {"epoch", 3.0}, {"best", nullptr},
                      {"attempts", {{{"started", "2026-11-22T13:55:00.000Z"}, {"ended", "2026-11-22T13:56:40.000Z"}}}},
                      {"spec", {{"resources", {{"workers", 2}}}}}},
                     {{"id", "other-1.b"}, {"kind", "train"}, {"state", "HELD"}, {"network", "vgg-b"}, {"pipeline", "other-1"}, {"message", "it depends on job x"},
                      {"best", nullptr}, {"spec", Json::object()}}};
  if (request.target == "/v1/pipelines")
    return {200, Json{{"pipelines", {Summary("paper-2", "paper", "RUNNING"), Summary("paper-1", "paper", "COMPLETED"), Summary("other-1", "other", "HELD")}}}.dump()};
  if (request.target == "/v1/jobs") return {200, Json{{"jobs", jobs}}.dump()};
  if (request.target == "/v1/pipelines/other-1") {
    Json pipeline = Summary("other-1", "other", "FAILED");
    pipeline["jobs"] = {{{"id", "other-1.a"}, {"kind", "train"}, {"report", nullptr}}, {{"id", "other-1.b"}, {"kind", "train"}, {"report", nullptr}},
                        {{"id", "other-1.t"}, {"kind", "evaluate"}, {"report", {{"table", 3}, {"row", {"A", "256", "256"}}}}}};
    pipeline["fusions"] = Json::array({{{"name", "f"}, {"of", {"other-1.t"}}, {"report", nullptr}}});
    return {200, pipeline.dump()};
  }
  if (request.target.ends_with("/metrics")) return {200, R"({"points":[],"validations":[{"epoch":1,"top1_error":0.7}]})"};
  if (request.target.ends_with("/lr-history")) return {200, R"({"decisions":[{"action":"keep"},{"action":"decay"}]})"};
  for (const auto& job : jobs)
    if (request.target == "/v1/jobs/" + job["id"].get<std::string>()) return {200, job.dump()};
  return {404, R"({"detail":"nothing there"})"};
}

TEST(PipelineView, AnIdOrTheNameOfAnOnlyRunMeansAPipeline) {
  FakeHttpServer server(Answer);
  const ApiClient client(ParseEndpoint(server.Url()).value());
  EXPECT_EQ(FindPipelineId(client, "paper-1"), "paper-1");
  EXPECT_EQ(FindPipelineId(client, "other"), "other-1");
  EXPECT_EQ(FindPipelineId(client, "paper"), "") << "two runs of that name";
  EXPECT_EQ(FindPipelineId(client, "other-1.a"), "");
}

TEST(PipelineView, CountsItsJobs) {
  const PipelineRow row = ReadPipelineRow(Summary("other-1", "other", "HELD"));
  EXPECT_EQ(row.Jobs(), 3);
  EXPECT_EQ(CountsText(row), "2 of 3 COMPLETED, 1 HELD");
  EXPECT_FALSE(row.Rests()) << "a node that is added lets it go on";
  EXPECT_TRUE(ReadPipelineRow(Summary("p-1", "p", "FAILED")).Rests());
  EXPECT_FALSE(ReadPipelineRow(Summary("p-1", "p", "QUEUED")).Rests());
  EXPECT_EQ(ReadPipelineRow(Json()).Jobs(), 0);
  EXPECT_THAT(RenderPipelines({}, {row}, 0), HasSubstr("other-1   HELD"));
  EXPECT_EQ(RenderPipelines({}, {}, 0), "");
}

TEST(PipelineView, FollowingEndsWhenNothingCanGoOn) {
  FakeHttpServer server(Answer);
  const SystemClock clock;
  CliContext context(clock);
  context.endpoint_url = server.Url();
  ::testing::internal::CaptureStdout();
  FollowPipeline(context, "other-1");
  const std::string out = ::testing::internal::GetCapturedStdout();
  EXPECT_EQ(context.exit_code, 1);
  EXPECT_THAT(out, HasSubstr("other-1.b  HELD  it depends on job x"));
  EXPECT_THAT(out, HasSubstr("other-1 is FAILED: 2 of 3 COMPLETED, 1 HELD"));
  ::testing::internal::CaptureStdout();
  ASSERT_TRUE(PrintPipeline(context, "other-1").has_value());
  const std::string page = ::testing::internal::GetCapturedStdout();
  EXPECT_LT(page.find("other-1.a "), page.find("other-1.t ")) << "in the pipeline's order";
  EXPECT_THAT(page, HasSubstr("60.00%"));
}

TEST(PipelineReport, TellsWhatItCouldNotRead) {
  FakeHttpServer server(Answer);
  const auto input = GatherReport(ApiClient(ParseEndpoint(server.Url()).value()), "other-1");
  ASSERT_TRUE(input.has_value()) << input.error().message;
  ASSERT_EQ(input->models.size(), 2u);
  EXPECT_EQ(input->models[0].decays, 1);
  EXPECT_DOUBLE_EQ(input->models[0].seconds, 100);
  EXPECT_EQ(input->models[0].workers, 2);
  ASSERT_EQ(input->tests.size(), 2u);
  EXPECT_EQ(input->tests[0].correct1, 40) << "its counts are known without its posteriors";
  EXPECT_EQ(input->tests[0].model, "other-1.a");
  EXPECT_THAT(input->tests[0].missing, HasSubstr("/absent/p.safetensors"));
  EXPECT_THAT(input->tests[1].missing, HasSubstr("/absent/p.safetensors"));
  EXPECT_TRUE(input->correctness.empty());
  const Report report = MakeReport(*input);
  EXPECT_DOUBLE_EQ(*report.tables[0].rows[0].top1, 60);
}

// Two images of two classes, the first of them right.
void WriteTwoPosteriors(const std::string& path) {
  const std::vector<float> values{.9F, .1F, .9F, .1F};
  const std::vector<int32_t> labels{0, 1};
  const std::vector<int64_t> ordinals{3, 5};
  const auto bytes = [](const auto& list) { return std::string_view(reinterpret_cast<const char*>(list.data()), list.size() * sizeof(list[0])); };
  PosixFileSystem files;
  auto file = files.Create(path);
  ASSERT_TRUE(file.has_value());
  const std::vector<NamedTensor> tensors{{"posteriors", {TensorType::kF32, {2, 2}, bytes(values)}},
                                         {"labels", {TensorType::kI32, {2}, bytes(labels)}},
                                         {"ordinals", {TensorType::kI64, {2}, bytes(ordinals)}}};
  ASSERT_TRUE(WriteSafetensors(**file, tensors, {{"format", "plateau-posteriors"}, {"version", "1"}}).has_value());
  ASSERT_TRUE((*file)->Close().has_value());
}

TEST(PipelineReport, PosteriorsThatAreNotTheResultsAreNotAveraged) {
  const test::TempFolder folder;
  WriteTwoPosteriors(folder.path() + "/p.safetensors");
  const auto gather = [&](const std::string& counts) {
    FakeHttpServer server([&](const FakeRequest& request) {
      FakeAnswer answer = Answer(request);
      const auto replace = [&answer](const std::string& what, const std::string& by) {
        if (const size_t at = answer.body.find(what); at != std::string::npos) answer.body.replace(at, what.size(), by);
      };
      replace("/absent", folder.path());
      replace(R"("images":100,"correct1":40,"correct5":80)", counts);
      return answer;
    });
    return GatherReport(ApiClient(ParseEndpoint(server.Url()).value()), "other-1").value();
  };
  const ReportInput right = gather(R"("images":2,"correct1":1,"correct5":2)");
  EXPECT_EQ(right.tests[1].missing, "");
  EXPECT_EQ(right.tests[1].correct1, 1);
  const ReportInput wrong = gather(R"("images":2,"correct1":2,"correct5":2)");
  EXPECT_THAT(wrong.tests[0].missing, HasSubstr("holds 1 and 2 right answers of 2, its result 2 and 2 of 2"));
  EXPECT_THAT(wrong.tests[1].missing, HasSubstr("cannot be averaged: other-1.t "));
  EXPECT_EQ(wrong.tests[1].images, 0);
  EXPECT_TRUE(wrong.correctness.empty());
}

}  // namespace
}  // namespace plateau
