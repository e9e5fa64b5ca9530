// Routing and the answers of each route.
#include "coordinator/http/api.h"

#include <algorithm>
#include <charconv>
#include <map>

#include <fmt/format.h>

#include "coordinator/http/log_files.h"
#include "coordinator/http/node_routes.h"
#include "coordinator/http/submission.h"
#include "coordinator/job/job_view.h"

namespace plateau {
namespace {

int StatusOf(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidInput:
    case ErrorCode::kUnsupported: return 422;
    case ErrorCode::kNotFound: return 404;
    case ErrorCode::kConflict: return 409;
    case ErrorCode::kUnavailable: return 503;
    default: return 500;
  }
}

ApiResponse Json(int status, std::string body) {
  ApiResponse response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

}  // namespace

class Api::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(Service& service, FileSystem& files, std::span<const WebAsset> assets) : service_(service), files_(files), assets_(assets) {}

  void Attach(IoThread& io) {
    io_ = &io;
    service_.OnEvent([weak = weak_from_this()](const std::string& job) {
      if (auto self = weak.lock()) self->io_->Post([self, job] { self->Wake(job); });
    });
  }

  void Handle(ApiRequest request, ApiRespond respond) {
    const auto& path = request.path;
    if (path.empty() || path[0] != "v1") return respond(Asset(request));
    if (path.size() == 2 && path[1] == "jobs") return Jobs(request, std::move(respond));
    if (path.size() == 3 && path[1] == "jobs") return OneJob(request, std::move(respond));
    if (path.size() == 4 && path[1] == "jobs") return JobPart(request, std::move(respond));
    if (IsNodeRoute(request)) return AnswerNodes(service_.Nodes(), request, std::move(respond));
    respond(NoRoute(request));
  }

 private:
  struct Waiter {
    std::string job;
    int64_t after = 0;
    ApiRespond respond;
    std::string target;
  };

  static ApiResponse NoRoute(const ApiRequest& request) {
    return Problem(404, "there is nothing at " + request.target + "; the routes are listed in coordinator/API.md", request.target);
  }
  static ApiResponse WrongMethod(const ApiRequest& request, const std::string& allowed) {
    ApiResponse response = Problem(405, request.method + " is not possible here; allowed: " + allowed, request.target);
    response.headers.emplace_back("Allow", allowed);
    return response;
  }
  static ApiResponse NoJob(const ApiRequest& request) {
    return Problem(404, "there is no job " + request.path[2] + "; GET /v1/jobs lists them", request.target);
  }

  ApiResponse Asset(const ApiRequest& request) const {
    const bool health = request.path.size() == 1 && request.path[0] == "healthz";
    const std::string wanted = request.path.empty()       ? "index.html"
                               : request.path.size() == 1 ? request.path[0]
                                                          : fmt::format("{}", fmt::join(request.path, "/"));
    const auto found = std::find_if(assets_.begin(), assets_.end(), [&](const WebAsset& asset) { return asset.path == wanted; });
    if (!health && found == assets_.end()) return NoRoute(request);
    if (request.method != "GET") return WrongMethod(request, "GET, HEAD");
    if (health) return HealthAnswer();
    ApiResponse response = Json(200, std::string(found->body));
    response.content_type = found->content_type;
    response.headers.emplace_back("Cache-Control", "no-cache");
    return response;
  }

  ApiResponse HealthAnswer() const {
    const Health health = service_.CheckHealth();
    return Json(health.ok ? 200 : 503,
                fmt::format(R"({{"status":"{}","version":"{}","jobs":{},"running":{},"queued":{},"oldest_event_s":{:.3f}}})",
                            health.ok ? "ok" : "stalled", PLATEAU_VERSION, health.jobs, health.running, health.queued,
                            health.oldest_event_s));
  }

  void Jobs(const ApiRequest& request, ApiRespond respond) {
    if (request.method == "GET") return respond(Json(200, JobListText(service_.All(), service_.Now())));
    if (request.method != "POST") return respond(WrongMethod(request, "GET, HEAD, POST"));
    auto read = ReadSubmission(request, files_);
    if (auto* problem = std::get_if<ApiResponse>(&read)) return respond(std::move(*problem));
    service_.Submit(std::move(std::get<Submission>(read)),
                    [this, self = shared_from_this(), target = request.target, respond](Result<SubmissionAnswer> answer) {
                      if (!answer) {  // a used key is the client's mistake in this body: 422, as the Idempotency-Key draft asks
                        const int status = answer.error().code == ErrorCode::kConflict ? 422 : StatusOf(answer.error().code);
                        return respond(Problem(status, answer.error().message, target, SpecFieldOf(answer.error().message)));
                      }
                      ApiResponse response = Json(answer->repeated ? 200 : 201, JobViewText(*answer->job, service_.Now(), false));
                      response.headers.emplace_back("Location", "/v1/jobs/" + answer->job->id);
                      respond(std::move(response));
                    });
  }

  void OneJob(const ApiRequest& request, ApiRespond respond) {
    if (request.method != "GET") return respond(WrongMethod(request, "GET, HEAD"));
    const auto job = service_.Find(request.path[2]);
    respond(job == nullptr ? NoJob(request) : Json(200, JobViewText(*job, service_.Now(), false)));
  }

  void JobPart(const ApiRequest& request, ApiRespond respond) {
    const std::string& part = request.path[3];
    static const std::map<std::string, JobCommand> kCommands{{"cancel", JobCommand::kCancel},
                                                             {"pause", JobCommand::kPause},
                                                             {"resume", JobCommand::kResume},
                                                             {"checkpoint", JobCommand::kCheckpoint}};
    const auto command = kCommands.find(part);
    const bool known =
        command != kCommands.end() || part == "events" || part == "metrics" || part == "lr-history" || part == "logs";
    if (!known) return respond(NoRoute(request));
    const char* method = command != kCommands.end() ? "POST" : "GET";
    if (request.method != method) return respond(WrongMethod(request, command != kCommands.end() ? "POST" : "GET, HEAD"));
    const auto job = service_.Find(request.path[2]);
    if (job == nullptr) return respond(NoJob(request));
    if (command != kCommands.end()) return Order(request, job->id, command->second, std::move(respond));
    if (part == "lr-history") return respond(Json(200, LrHistoryText(*job)));
    if (part == "logs") return respond(LogAnswer(request, *job));
    if (part == "metrics") return respond(MetricsAnswer(request, *job));
    Events(request, *job, std::move(respond));
  }

  void Order(const ApiRequest& request, const std::string& id, JobCommand command, ApiRespond respond) {
    service_.Command(id, command,
                     [this, self = shared_from_this(), target = request.target, respond](Result<std::shared_ptr<const Job>> job) {
                       if (!job) return respond(Problem(StatusOf(job.error().code), job.error().message, target));
                       respond(Json(202, JobViewText(**job, service_.Now(), false)));
                     });
  }

  // A whole number from the query, or `absent`; nothing when it is no number in [low, high].
  static std::optional<int64_t> Number(const ApiRequest& request, const char* name, int64_t absent, int64_t low, int64_t high) {
    const auto found = request.query.find(name);
    if (found == request.query.end()) return absent;
    int64_t value = 0;
    const auto& text = found->second;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < low || value > high) return std::nullopt;
    return value;
  }
  static ApiResponse BadNumber(const ApiRequest& request, const std::string& what) {
    return Problem(400, "query: " + what, request.target);
  }

  ApiResponse MetricsAnswer(const ApiRequest& request, const Job& job) const {
    const auto after = Number(request, "after_step", -1, -1, INT64_MAX - 1);
    if (!after) return BadNumber(request, "after_step must be a whole number from -1 on");
    auto points = service_.Points(job.id, *after);
    if (!points) return Problem(500, points.error().message, request.target);
    return Json(200, MetricsText(job, *points));
  }

  ApiResponse LogAnswer(const ApiRequest& request, const Job& job) const {
    if (request.query.contains("list")) return ListLogs(files_, service_, job, request);
    const auto newest = static_cast<int64_t>(job.attempts.size());
    const auto attempt = Number(request, "attempt", newest, 0, newest);
    const auto offset = Number(request, "offset", 0, 0, INT64_MAX / 2);
    if (!attempt || !offset) return BadNumber(request, fmt::format("attempt must be 1..{} and offset a number of bytes", newest));
    const auto file = request.query.find("file");
    return ReadLog(service_, job, static_cast<int>(*attempt), file == request.query.end() ? "rank-0.log" : file->second, *offset,
                   request);
  }

  void Events(const ApiRequest& request, const Job& job, ApiRespond respond) {
    const auto after = Number(request, "after", 0, 0, INT64_MAX - 1);
    const auto wait_s = Number(request, "wait", 0, 0, kMaxWaitSeconds);
    if (!after) return respond(BadNumber(request, "after must be a whole number from 0 on"));
    if (!wait_s)
      return respond(BadNumber(request, fmt::format("wait must be a whole number of seconds from 0 to {}", kMaxWaitSeconds)));
    if (job.last_event > *after || *wait_s == 0) return respond(EventsAnswer(job.id, *after, request.target));
    if (waiters_.size() >= kMaxLongPolls)
      return respond(Problem(503, "too many long polls are waiting; ask again without wait", request.target));
    const uint64_t number = ++last_waiter_;
    waiters_[number] = Waiter{job.id, *after, std::move(respond), request.target};
    io_->After(*wait_s * 1000, [weak = weak_from_this(), number] {
      if (auto self = weak.lock()) self->Answer(number);
    });
    const auto now = service_.Find(job.id);  // an event may have come between the look and the registration
    if (now != nullptr && now->last_event > *after) Answer(number);
  }

  ApiResponse EventsAnswer(const std::string& job, int64_t after, const std::string& target) const {
    auto events = service_.Events(job, after, kMaxEventsPerAnswer);
    if (!events) return Problem(500, events.error().message, target);
    return Json(200, EventsText(*events, after + static_cast<int64_t>(events->size())));
  }

  void Answer(uint64_t number) {
    auto node = waiters_.extract(number);
    if (node.empty()) return;
    const Waiter& waiter = node.mapped();
    waiter.respond(EventsAnswer(waiter.job, waiter.after, waiter.target));
  }

  void Wake(const std::string& job) {
    const auto now = service_.Find(job);
    std::vector<uint64_t> ready;
    for (const auto& [number, waiter] : waiters_)
      if (waiter.job == job && now != nullptr && now->last_event > waiter.after) ready.push_back(number);
    for (const uint64_t number : ready) Answer(number);
  }

  Service& service_;
  FileSystem& files_;
  std::span<const WebAsset> assets_;
  IoThread* io_ = nullptr;
  std::map<uint64_t, Waiter> waiters_;  // the io thread's own
  uint64_t last_waiter_ = 0;
};

Api::Api(Service& service, FileSystem& files, std::span<const WebAsset> assets)
    : impl_(std::make_shared<Impl>(service, files, assets)) {}
Api::~Api() = default;
void Api::Attach(IoThread& io) { impl_->Attach(io); }
void Api::Handle(ApiRequest request, ApiRespond respond) { impl_->Handle(std::move(request), std::move(respond)); }

}  // namespace plateau
