// Gathering what a report needs, and printing it.
#include "coordinator/cli/report_command.h"

#include <algorithm>
#include <memory>
#include <set>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "common/file.h"
#include "coordinator/cli/pipeline_view.h"
#include "coordinator/cli/terminal.h"
#include "coordinator/report/render.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostCurvePoints = 400;  // of a curve in the page

double Number(const Json& object, const char* name) {
  return object.is_object() && object.contains(name) && object.at(name).is_number() ? object.at(name).get<double>() : 0;
}

// {table: 3, row: [...]}, or a list of such.
std::vector<Json> Labels(const Json& report) {
  if (report.is_array()) return {report.begin(), report.end()};
  return report.is_object() ? std::vector<Json>{report} : std::vector<Json>{};
}

std::vector<std::pair<int, std::vector<std::string>>> RowsOf(const Json& report) {
  std::vector<std::pair<int, std::vector<std::string>>> rows;
  for (const auto& label : Labels(report)) {
    if (!label.contains("table") || !label.contains("row")) continue;
    std::vector<std::string> key;
    for (const auto& part : label.at("row").is_array() ? label.at("row") : Json::array({label.at("row")}))
      key.push_back(part.is_string() ? part.get<std::string>() : part.dump());
    rows.emplace_back(label.at("table").get<int>(), std::move(key));
  }
  return rows;
}

double AttemptSeconds(const Json& job) {
  double seconds = 0;
  for (const auto& attempt : job.value("attempts", Json::array())) {
    const auto time = [&](const char* name) { return attempt.at(name).is_string() ? ParseUtcMs(attempt.at(name).get<std::string>()) : -1; };
    if (time("started") >= 0 && time("ended") >= 0) seconds += static_cast<double>(time("ended") - time("started")) / 1000;
  }
  return seconds;
}

// The first second of a run is not like the others.
double MedianSpeed(const Json& points) {
  std::vector<double> speeds;
  for (const auto& point : points) speeds.push_back(Number(point, "images_per_s"));
  if (speeds.size() > 1) speeds.erase(speeds.begin());
  if (speeds.empty()) return 0;
  std::sort(speeds.begin(), speeds.end());
  return speeds[speeds.size() / 2];
}

Result<TrainedModel> AskModel(const ApiClient& client, const Json& job, const Json& report) {
  TrainedModel model{.job = job.value("id", ""), .network = job.value("network", ""), .state = job.value("state", "")};
  model.epochs = Number(job, "epoch");
  model.seconds = AttemptSeconds(job);
  if (job.at("spec").contains("resources")) model.workers = static_cast<int>(Number(job.at("spec").at("resources"), "workers"));
  if (job.at("best").is_object()) model.best_error = Number(job.at("best"), "value");
  for (const auto& label : Labels(report)) model.baseline = model.baseline || label.value("baseline", false);
  PLATEAU_ASSIGN(const Json history, client.Get(JobPath(model.job, "/lr-history")));
  for (const auto& decision : history.value("decisions", Json::array())) model.decays += decision.value("action", "") == "decay" ? 1 : 0;
  PLATEAU_ASSIGN(const Json metrics, client.Get(JobPath(model.job, "/metrics")));
  const Json points = metrics.value("points", Json::array());
  model.images_per_s = MedianSpeed(points);
  const size_t stride = points.size() / kMostCurvePoints + 1;
  for (size_t i = 0; i < points.size(); i += stride) model.loss.push_back({Number(points[i], "epoch"), Number(points[i], "loss")});
  for (const auto& one : metrics.value("validations", Json::array()))
    model.error.push_back({Number(one, "epoch"), Number(one, "top1_error")});
  return model;
}

// An evaluation's figures; `posteriors` gets the path of its file, if there is one.
TestResult ReadTest(const Json& member, const Json& job, std::string& posteriors) {
  TestResult test{.name = member.value("id", ""), .rows = RowsOf(member.value("report", Json()))};
  for (const auto& one : job.value("depends_on", Json::array()))
    if (one.value("job", "") == job.at("spec").at("evaluate").value("job", "")) test.model = one.value("job", "");
  const Json result = job.value("result", Json());
  if (!result.is_object()) {
    test.missing = fmt::format("is {}{}", job.value("state", ""), job.value("message", "").empty() ? "" : ": " + job.value("message", ""));
    return test;
  }
  test.images = static_cast<int64_t>(Number(result, "images"));
  test.correct1 = static_cast<int64_t>(Number(result, "correct1"));
  test.correct5 = static_cast<int64_t>(Number(result, "correct5"));
  test.seconds = Number(result, "seconds");
  if (result.contains("posteriors") && result.at("posteriors").is_string())
    posteriors = job.value("output", "") + "/" + result.at("posteriors").get<std::string>();
  return test;
}

Result<Correctness> ReadPosteriors(FileSystem& files, const std::vector<std::string>& paths) {
  PosteriorMean mean;
  for (const auto& path : paths) PLATEAU_TRY(mean.Add(files, path));
  return mean.Judge();
}

// The one training behind all parts of a fusion; empty: there are several.
std::string CommonModel(const ReportInput& input, const Json& fusion) {
  std::set<std::string> models;
  for (const auto& one : fusion.value("of", Json::array()))
    for (const auto& test : input.tests)
      if (test.name == one.get<std::string>()) models.insert(test.model);
  return models.size() == 1 ? *models.begin() : std::string();
}

TestResult Fuse(FileSystem& files, const Json& fusion, const std::map<std::string, std::string>& posteriors, ReportInput& input) {
  TestResult test{.name = fusion.value("name", ""), .rows = RowsOf(fusion.value("report", Json()))};
  std::vector<std::string> paths;
  for (const auto& one : fusion.value("of", Json::array())) {
    const auto found = posteriors.find(one.get<std::string>());
    if (found == posteriors.end()) {
      const auto part = std::find_if(input.tests.begin(), input.tests.end(), [&one](const TestResult& t) { return t.name == one.get<std::string>(); });
      const bool told = part != input.tests.end() && !part->missing.empty();
      test.missing = fmt::format("cannot be averaged: {} {}", one.get<std::string>(), told ? part->missing : "has left no posteriors yet");
      return test;
    }
    paths.push_back(found->second);
  }
  test.model = CommonModel(input, fusion);
  auto fused = ReadPosteriors(files, paths);
  if (!fused) {
    test.missing = fused.error().message;
    return test;
  }
  test.images = static_cast<int64_t>(fused->ordinals.size());
  test.correct1 = fused->Count1();
  test.correct5 = fused->Count5();
  input.correctness[test.name] = std::move(*fused);
  return test;
}

// Whether its posteriors are those of its result: others are neither compared nor averaged.
bool JudgeTest(FileSystem& files, const std::string& path, TestResult& test, ReportInput& input) {
  auto judged = ReadPosteriors(files, {path});
  if (!judged) {
    test.missing = judged.error().message;
    return false;
  }
  const auto images = static_cast<int64_t>(judged->ordinals.size());
  if (images != test.images || judged->Count1() != test.correct1 || judged->Count5() != test.correct5) {
    test.missing = fmt::format("{} holds {} and {} right answers of {}, its result {} and {} of {}; it is not compared", path, judged->Count1(),
                               judged->Count5(), images, test.correct1, test.correct5, test.images);
    return false;
  }
  input.correctness[test.name] = std::move(*judged);
  return true;
}

struct ReportOptions {
  std::string pipeline, format = "text", output;
};

void RunReport(CliContext& context, const ReportOptions& options) {
  const auto text = [&]() -> Result<std::string> {
    PLATEAU_ASSIGN(const ApiClient client, context.Client());
    const std::string id = FindPipelineId(client, options.pipeline);
    if (id.empty())
      return Fail(ErrorCode::kNotFound, "there is no pipeline \"{}\", or more than one of that name; `plateau jobs` lists them", options.pipeline);
    PLATEAU_ASSIGN(const ReportInput input, GatherReport(client, id));
    const Report report = MakeReport(input);
    if (options.format == "json") return ReportJson(report);
    if (options.format == "html") return ReportHtml(report);
    return RenderReport(report, options.format == "markdown" ? ReportFormat::kMarkdown : ReportFormat::kText);
  }();
  if (!text) return context.Report(text.error());
  if (options.output.empty()) return (void)fmt::print("{}", *text);
  PosixFileSystem files;
  if (const Status written = WriteFileAtomic(files, options.output, *text); !written) return context.Report(written.error());
  fmt::print("{}\n", options.output);
}

}  // namespace

Result<ReportInput> GatherReport(const ApiClient& client, const std::string& pipeline) {
  PLATEAU_ASSIGN(const Json view, client.Get(PipelinePath(pipeline)));
  ReportInput input{.pipeline = view.value("id", ""), .state = view.value("state", ""), .scale_factor = Number(view, "scale_factor")};
  std::map<std::string, std::string> posteriors;  // of each test
  PosixFileSystem files;
  for (const auto& member : view.value("jobs", Json::array())) {
    PLATEAU_ASSIGN(const Json job, client.Get(JobPath(member.value("id", ""))));
    if (member.value("kind", "") == "train") {
      PLATEAU_ASSIGN(TrainedModel model, AskModel(client, job, member.value("report", Json())));
      input.models.push_back(std::move(model));
      continue;
    }
    std::string path;
    TestResult test = ReadTest(member, job, path);
    if (!path.empty() && JudgeTest(files, path, test, input)) posteriors[test.name] = path;
    input.tests.push_back(std::move(test));
  }
  for (const auto& fusion : view.value("fusions", Json::array())) input.tests.push_back(Fuse(files, fusion, posteriors, input));
  return input;
}

void AddReportCommand(CLI::App& app, CliContext& context) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App* command = app.add_subcommand("report", "A pipeline's results beside the paper's: Tables 3 to 7 and verdicts on its claims");
  command->add_option("pipeline", options->pipeline, "Id or name of a pipeline")->required();
  command->add_option("--format", options->format, "text, markdown, json or html")
      ->check(CLI::IsMember({"text", "markdown", "json", "html"}))
      ->capture_default_str();
  command->add_option("--output,-o", options->output, "File to write; default: standard output");
  AddConnectionOptions(*command, context);
  command->footer(
      "Errors are percentages of the validation split. Claims are judged image by image on the posteriors that the tests left in their output\n"
      "folders, which this machine must see; fusions are averaged from them as well. A pipeline that is not over is reported as far as it is.\n"
      "Examples:\n  plateau report vgg-paper-1\n  plateau report vgg-paper --format markdown > report.md\n"
      "  plateau report vgg-paper-1 --format html --output report.html    # with the curves, one file");
  command->callback([&context, options] { RunReport(context, *options); });
}

}  // namespace plateau
