// Routing and the answers of each route.
#include "coordinator/http/api.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "coordinator/http/dataset_api.h"
#include "coordinator/http/event_pages.h"
#include "coordinator/http/log_files.h"
#include "coordinator/http/node_routes.h"
#include "coordinator/http/pipeline_routes.h"
#include "coordinator/http/submission.h"
#include "coordinator/job/job_view.h"

namespace plateau {
namespace {

ApiResponse Json(int status, std::string body) {
  ApiResponse response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

}  // namespace

int HttpStatusOf(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidInput:
    case ErrorCode::kUnsupported: return 422;
    case ErrorCode::kNotFound: return 404;
    case ErrorCode::kConflict: return 409;
    case ErrorCode::kUnavailable: return 503;
    default: return 500;
  }
}

ApiResponse NoRoute(const ApiRequest& request) {
  return Problem(404, "there is nothing at " + request.target + "; the routes are listed in coordinator/API.md", request.target);
}

ApiResponse WrongMethod(const ApiRequest& request, const std::string& allowed) {
  ApiResponse response = Problem(405, request.method + " is not possible here; allowed: " + allowed, request.target);
  response.headers.emplace_back("Allow", allowed);
  return response;
}

class Api::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(Service& service, DatasetService* datasets, FileSystem& files, std::span<const WebAsset> assets)
      : service_(service),
        files_(files),
        assets_(assets),
        events_(std::make_shared<EventPages>(
            [this](const std::string& id) {
              const auto job = service_.Find(id);
              return job == nullptr ? int64_t{-1} : job->last_event;
            },
            [this](const std::string& id, int64_t after, size_t limit) { return service_.Events(id, after, limit); })),
        datasets_(datasets == nullptr ? nullptr : std::make_shared<DatasetApi>(*datasets)) {}

  void Attach(IoThread& io) {
    events_->Attach(io);
    if (datasets_ != nullptr) datasets_->Attach(io);
    service_.OnEvent([&io, weak = std::weak_ptr(events_)](const std::string& job) {
      io.Post([weak, job] {
        if (auto events = weak.lock()) events->Wake(job);
      });
    });
  }

  void Handle(ApiRequest request, ApiRespond respond) {
    const auto& path = request.path;
    if (path.empty() || path[0] != "v1") return respond(Asset(request));
    if (path.size() >= 2 && path[1] == "datasets" && datasets_ != nullptr) return datasets_->Handle(request, std::move(respond));
    if (path.size() == 2 && path[1] == "jobs") return Jobs(request, std::move(respond));
    if (path.size() == 3 && path[1] == "jobs") return OneJob(request, std::move(respond));
    if (path.size() == 4 && path[1] == "jobs") return JobPart(request, std::move(respond));
    if (IsPipelineRoute(request)) return AnswerPipelines(service_.Pipelines(), files_, request, std::move(respond));
    if (IsNodeRoute(request)) return AnswerNodes(service_.Nodes(), request, std::move(respond));
    respond(NoRoute(request));
  }

 private:
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
                        const int status = answer.error().code == ErrorCode::kConflict ? 422 : HttpStatusOf(answer.error().code);
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
    events_->Answer(request, job->id, std::move(respond));
  }

  void Order(const ApiRequest& request, const std::string& id, JobCommand command, ApiRespond respond) {
    service_.Command(id, command,
                     [this, self = shared_from_this(), target = request.target, respond](Result<std::shared_ptr<const Job>> job) {
                       if (!job) return respond(Problem(HttpStatusOf(job.error().code), job.error().message, target));
                       respond(Json(202, JobViewText(**job, service_.Now(), false)));
                     });
  }

  static ApiResponse BadNumber(const ApiRequest& request, const std::string& what) {
    return Problem(400, "query: " + what, request.target);
  }

  ApiResponse MetricsAnswer(const ApiRequest& request, const Job& job) const {
    const auto after = QueryNumber(request, "after_step", -1, -1, INT64_MAX - 1);
    if (!after) return BadNumber(request, "after_step must be a whole number from -1 on");
    auto points = service_.Points(job.id, *after);
    if (!points) return Problem(500, points.error().message, request.target);
    return Json(200, MetricsText(job, *points));
  }

  ApiResponse LogAnswer(const ApiRequest& request, const Job& job) const {
    if (request.query.contains("list")) return ListLogs(files_, service_, job, request);
    const auto newest = static_cast<int64_t>(job.attempts.size());
    const auto attempt = QueryNumber(request, "attempt", newest, 0, newest);
    const auto offset = QueryNumber(request, "offset", 0, 0, INT64_MAX / 2);
    if (!attempt || !offset) return BadNumber(request, fmt::format("attempt must be 1..{} and offset a number of bytes", newest));
    const auto file = request.query.find("file");
    return ReadLog(service_, job, static_cast<int>(*attempt), file == request.query.end() ? "rank-0.log" : file->second, *offset,
                   request);
  }

  Service& service_;
  FileSystem& files_;
  std::span<const WebAsset> assets_;
  std::shared_ptr<EventPages> events_;
  std::shared_ptr<DatasetApi> datasets_;
};

Api::Api(Service& service, DatasetService* datasets, FileSystem& files, std::span<const WebAsset> assets)
    : impl_(std::make_shared<Impl>(service, datasets, files, assets)) {}
Api::~Api() = default;
void Api::Attach(IoThread& io) { impl_->Attach(io); }
void Api::Handle(ApiRequest request, ApiRespond respond) { impl_->Handle(std::move(request), std::move(respond)); }

}  // namespace plateau
