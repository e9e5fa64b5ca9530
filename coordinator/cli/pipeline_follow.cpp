// Asking about a pipeline once, or until it rests.
#include "coordinator/cli/pipeline_follow.h"

#include <chrono>
#include <cstdio>
#include <map>
#include <thread>

#include <nlohmann/json.hpp>

#include "coordinator/cli/interrupt_notice.h"
#include "coordinator/cli/pipeline_view.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kWaitS = 5;  // news of jobs other than the awaited one are at most this old
constexpr int kPollMarginMs = 30'000;
constexpr int kReconnectS = 60;

// What one round of questions brought.
struct News {
  Json pipeline;
  std::vector<JobView> jobs;  // in the pipeline's order
};

Result<News> Ask(const ApiClient& client, const std::string& id) {
  News news;
  PLATEAU_ASSIGN(news.pipeline, client.Get(PipelinePath(id)));
  PLATEAU_ASSIGN(const Json list, client.Get("/v1/jobs"));
  std::map<std::string, JobView> views;
  for (const auto& item : list.value("jobs", Json::array())) {
    JobView view = ReadJobView(item);
    views[view.id] = std::move(view);
  }
  for (const auto& member : news.pipeline.value("jobs", Json::array())) {
    const auto found = views.find(member.value("id", ""));
    if (found != views.end()) news.jobs.push_back(found->second);
  }
  return news;
}

class Follower {
 public:
  Follower(CliContext& context, std::string id) : context_(context), id_(std::move(id)) {}

  void Run() {
    const InterruptNotice notice("The pipeline goes on. Watch it again with: plateau watch " + id_);
    while (true) {
      const auto client = context_.Client();
      if (!client) return context_.Report(client.error());
      const auto news = Ask(*client, id_);
      if (!news && !MayReconnect(news.error())) return context_.Report(news.error());
      if (!news) continue;
      away_since_ms_ = -1;
      Show(*news);
      const PipelineRow row = ReadPipelineRow(news->pipeline);
      if (row.Rests()) return Finish(*news, row);
      Await(*client, *news);
    }
  }

 private:
  // The events of a job that runs, else of one that is to or is held: its start or its end is what comes next.
  void Await(const ApiClient& client, const News& news) {
    const JobView* awaited = nullptr;
    for (const auto& job : news.jobs) {
      const bool runs = job.state == "RUNNING" || job.state == "STARTING" || job.state == "STOPPING";
      if (runs || (awaited == nullptr && (job.state == "QUEUED" || job.state == "HELD"))) awaited = &job;
      if (runs) break;
    }
    if (awaited == nullptr) return;
    // An answer without news, or none at all, leads to the same questions again.
    (void)client.Get(JobPath(awaited->id, fmt::format("/events?after={}&wait={}", awaited->last_event, kWaitS)), kWaitS * 1000 + kPollMarginMs);
  }

  bool MayReconnect(const Error& error) {
    if (shown_.empty() || error.code != ErrorCode::kUnavailable) return false;
    const int64_t now_ms = context_.clock.MonotonicMs();
    if (away_since_ms_ < 0) {
      away_since_ms_ = now_ms;
      fmt::print(stderr, "{}; trying again for {} s\n", error.message, kReconnectS);
    }
    if (now_ms - away_since_ms_ > int64_t{kReconnectS} * 1000) return false;
    std::this_thread::sleep_for(std::chrono::seconds(1));  // between attempts to connect, which fail at once
    return true;
  }

  // A line for each job whose state is not the one shown last; jobs that wait from the start are not worth one.
  void Show(const News& news) {
    const PipelineRow row = ReadPipelineRow(news.pipeline);
    for (const auto& job : news.jobs) {
      std::string& shown = shown_[job.id];
      if (shown == job.state || (shown.empty() && job.state == "QUEUED")) {
        shown = job.state;
        continue;
      }
      shown = job.state;
      if (context_.json) {
        fmt::print("{}\n", Json{{"job", job.id}, {"state", job.state}, {"reason", job.reason}, {"message", job.message}}.dump());
        continue;
      }
      fmt::print("[{}/{}]  {}  {}{}\n", row.Completed(), row.Jobs(), job.id, context_.out.Paint(StateColour(job.state), job.state),
                 job.message.empty() ? "" : "  " + job.message);
    }
    std::fflush(stdout);
  }

  void Finish(const News& news, const PipelineRow& row) {
    context_.exit_code = row.state == "COMPLETED" ? 0 : 1;
    if (context_.json) return (void)fmt::print("{}\n", news.pipeline.dump());
    fmt::print("{} is {}: {}\n", row.id, context_.out.Paint(StateColour(row.state), row.state), CountsText(row));
    if (row.state == "COMPLETED") fmt::print("  its results: plateau report {}\n", row.id);
    else fmt::print("  see why: plateau show {0}; go on: plateau resume {0}\n", row.id);
    std::fflush(stdout);
  }

  CliContext& context_;
  const std::string id_;
  std::map<std::string, std::string> shown_;  // job, state
  int64_t away_since_ms_ = -1;
};

}  // namespace

Status PrintPipeline(const CliContext& context, const std::string& id) {
  PLATEAU_ASSIGN(const ApiClient client, context.Client());
  PLATEAU_ASSIGN(const News news, Ask(client, id));
  if (context.json) context.PrintJson(news.pipeline);
  else fmt::print("{}", RenderPipeline(context.out, ReadPipelineRow(news.pipeline), news.jobs, context.clock.NowMs()));
  return {};
}

void FollowPipeline(CliContext& context, const std::string& id) { Follower(context, id).Run(); }

void RunPipelineAction(CliContext& context, const std::string& id, const std::string& action, bool follow) {
  if (action != "cancel" && action != "resume")
    return context.Report({ErrorCode::kInvalidInput, fmt::format("{} is a pipeline; {} one of its jobs (plateau show {})", id, action, id)});
  const auto answer = [&]() -> Result<Json> {
    PLATEAU_ASSIGN(const ApiClient client, context.Client());
    return client.Post(PipelinePath(id, "/" + action));
  }();
  if (!answer) return context.Report(answer.error());
  if (context.json && !follow) return context.PrintJson(*answer);
  const PipelineRow row = ReadPipelineRow(*answer);
  if (!context.json) fmt::print("{} is {}: {}\n", row.id, row.state, CountsText(row));
  std::fflush(stdout);
  if (!follow) return;
  FollowPipeline(context, id);
  if (action == "cancel" && context.exit_code == 1) context.exit_code = 0;
}

}  // namespace plateau
