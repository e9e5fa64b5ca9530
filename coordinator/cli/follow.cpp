// One loop: wait for news, read the job, draw.
#include "coordinator/cli/follow.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <iterator>
#include <thread>

#include <nlohmann/json.hpp>

#include "coordinator/cli/interrupt_notice.h"
#include "coordinator/cli/job_view.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kRedrawS = 1;  // how often the figures of a live view are read again
constexpr int kLineS = 10;   // a progress line that often where lines are printed
constexpr size_t kShownEvents = 12;
constexpr int kPollMarginMs = 30'000;

// A checkpoint that is complete is published a moment later; people need one line for both. --json has every event.
bool IsWorthALine(const EventRowView& event) { return event.type != "checkpoint"; }

// What one round of questions brought.
struct News {
  Json job;
  Json events;
  std::vector<ValidationRow> validations;
};

class Follower {
 public:
  Follower(CliContext& context, std::string id, const FollowOptions& options)
      : context_(context), id_(std::move(id)), options_(options), live_(context.out.terminal && !context.json) {}

  void Run() {
    const InterruptNotice notice("The job goes on. Watch it again with: plateau watch " + id_);
    while (true) {
      auto news = Ask();
      if (!news && !MayReconnect(news.error())) return context_.Report(news.error());
      if (!news) continue;
      away_since_ms_ = -1;
      const JobView job = ReadJobView(news->job);
      Show(*news, job);
      if (ended_) return Finish(*news, job);
      if (options_.until_step >= 0 && job.step >= options_.until_step) return;
    }
  }

 private:
  // The first round answers at once; later ones wait for an event. The round that ends the loop saw the job ended before it read
  // the events, so that none is missed; the others read the job again afterwards, for fresh figures.
  Result<News> Ask() {
    PLATEAU_ASSIGN(const ApiClient client, context_.Client());
    News news;
    PLATEAU_ASSIGN(news.job, client.Get(JobPath(id_)));
    ended_ = ReadJobView(news.job).Rests();
    const int wait_s = first_ || ended_ ? 0 : live_ ? kRedrawS : kLineS;
    PLATEAU_ASSIGN(news.events, AskEvents(client, wait_s));
    if (!ended_) {
      PLATEAU_ASSIGN(news.job, client.Get(JobPath(id_)));
    }
    if (live_) {
      PLATEAU_ASSIGN(const Json metrics, client.Get(JobPath(id_, "/metrics?after_step=999999999999")));
      news.validations = ReadValidations(metrics);
    }
    return news;
  }

  // An answer holds a bounded number of events: where none is waited for, all pages are read.
  Result<Json> AskEvents(const ApiClient& client, int wait_s) const {
    Json all = {{"events", Json::array()}, {"last", last_event_}};
    while (true) {
      const std::string target = JobPath(id_, fmt::format("/events?after={}&wait={}", all["last"].get<int64_t>(), wait_s));
      PLATEAU_ASSIGN(Json page, client.Get(target, wait_s * 1000 + kPollMarginMs));
      for (auto& event : page.at("events")) all["events"].push_back(std::move(event));
      all["last"] = page.at("last");
      if (wait_s > 0 || page["events"].empty()) return all;
    }
  }

  // A coordinator that is restarted comes back; one that never answered is not waited for.
  bool MayReconnect(const Error& error) {
    if (first_ || error.code != ErrorCode::kUnavailable) return false;
    const int64_t now_ms = context_.clock.MonotonicMs();
    if (away_since_ms_ < 0) {
      away_since_ms_ = now_ms;
      fmt::print(stderr, "{}; trying again for {} s\n", error.message, options_.reconnect_s);
    }
    if (now_ms - away_since_ms_ > int64_t{options_.reconnect_s} * 1000) return false;
    std::this_thread::sleep_for(std::chrono::seconds(1));  // between attempts to connect, which fail at once
    return true;
  }

  void Show(const News& news, const JobView& job) {
    auto rows = ReadEvents(news.events);
    const auto& raw = news.events.at("events");
    const size_t skip = first_ && rows.size() > options_.old_events ? rows.size() - options_.old_events : 0;
    if (!rows.empty()) last_event_ = std::max(last_event_, rows.back().seq);
    if (context_.json) {
      for (size_t i = skip; i < raw.size(); ++i) fmt::print("{}\n", raw[i].dump());
    } else if (live_) {
      std::copy_if(rows.begin() + static_cast<std::ptrdiff_t>(skip), rows.end(), std::back_inserter(shown_), IsWorthALine);
      while (shown_.size() > kShownEvents) shown_.pop_front();
      Redraw(RenderLive(context_.out, job, news.validations, {shown_.begin(), shown_.end()}));
    } else {
      for (size_t i = skip; i < rows.size(); ++i)
        if (IsWorthALine(rows[i])) fmt::print("{}\n", RenderEvent(context_.out, rows[i]));
      PrintProgress(job);
    }
    std::fflush(stdout);
    first_ = false;
  }

  void PrintProgress(const JobView& job) {
    const int64_t now_ms = context_.clock.MonotonicMs();
    if (job.state != "RUNNING" || job.step == 0 || now_ms - progress_ms_ < kLineS * 1000 - 500) return;
    progress_ms_ = now_ms;
    fmt::print("          {}\n", RenderProgress(job));
  }

  // Goes back over the lines drawn last, clears them and draws the new ones.
  void Redraw(const std::vector<std::string>& lines) {
    if (drawn_ > 0) fmt::print("\033[{}A", drawn_);
    fmt::print("\r\033[J");
    for (const auto& line : lines) fmt::print("{}\n", line);
    drawn_ = lines.size();
  }

  void Finish(const News& news, const JobView& job) {
    context_.exit_code = job.ExitCode();
    if (context_.json) return (void)fmt::print("{}\n", news.job.dump());
    const std::string state = context_.out.Paint(StateColour(job.state), job.state);
    fmt::print("{} is {}{}{}\n", job.id, state, job.reason.empty() ? "" : ": " + job.reason,
               job.message.empty() ? "" : " - " + job.message);
    if (job.best)
      fmt::print("  best {} {} at validation {}\n", job.best_metric, MetricText(job.best_metric, *job.best), job.best_validation);
    if (!job.checkpoint_path.empty()) fmt::print("  checkpoint {}/{}\n", job.output, job.checkpoint_path);
    if (job.state == "PAUSED") fmt::print("  go on from there: plateau resume {}\n", job.id);
    if (job.state == "FAILED") fmt::print("  see why: plateau logs {0}; go on from the checkpoint: plateau resume {0}\n", job.id);
    std::fflush(stdout);
  }

  CliContext& context_;
  const std::string id_;
  const FollowOptions options_;
  const bool live_;
  bool first_ = true, ended_ = false;
  int64_t last_event_ = 0, away_since_ms_ = -1, progress_ms_ = 0;
  size_t drawn_ = 0;
  std::deque<EventRowView> shown_;
};

}  // namespace

void FollowJob(CliContext& context, const std::string& id, const FollowOptions& options) { Follower(context, id, options).Run(); }

}  // namespace plateau
