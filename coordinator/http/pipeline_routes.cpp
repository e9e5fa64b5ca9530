// Requests about pipelines and their answers.
#include "coordinator/http/pipeline_routes.h"

#include <variant>

#include <nlohmann/json.hpp>

#include "coordinator/http/api.h"
#include "coordinator/http/submission.h"
#include "coordinator/pipeline/expand.h"

namespace plateau {
namespace {

ApiResponse Json(int status, std::string body) {
  ApiResponse response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

PipelineService::Answer Answering(int status, const std::string& target, ApiRespond respond) {
  return [status, target, respond = std::move(respond)](Result<PipelineView> view) {
    if (!view) {
      const bool used_key = status == 201 && view.error().code == ErrorCode::kConflict;
      return respond(Problem(used_key ? 422 : HttpStatusOf(view.error().code), view.error().message, target,
                             SpecFieldOf(view.error().message)));
    }
    ApiResponse response = Json(view->repeated ? 200 : status, PipelineViewText(*view->pipeline, view->jobs, false));
    if (status == 201) response.headers.emplace_back("Location", "/v1/pipelines/" + view->pipeline->id);
    respond(std::move(response));
  };
}

void Submit(PipelineService& pipelines, FileSystem& files, const ApiRequest& request, ApiRespond respond) {
  auto read = ReadPipeline(request, files);
  if (auto* problem = std::get_if<ApiResponse>(&read)) return respond(std::move(*problem));
  pipelines.SubmitPipeline(std::move(std::get<PipelineSubmission>(read)), Answering(201, request.target, std::move(respond)));
}

ApiResponse List(const PipelineService& pipelines) {
  std::string list;
  for (const auto& view : pipelines.AllPipelines()) {
    if (!list.empty()) list += ',';
    list += PipelineViewText(*view.pipeline, view.jobs, true);
  }
  return Json(200, "{\"pipelines\":[" + list + "]}");
}

void AnswerOne(PipelineService& pipelines, const ApiRequest& request, ApiRespond respond) {
  const std::string& id = request.path[2];
  if (request.path.size() == 4) {
    const bool cancel = request.path[3] == "cancel";
    if (!cancel && request.path[3] != "resume") return respond(NoRoute(request));
    if (request.method != "POST") return respond(WrongMethod(request, "POST"));
    return pipelines.CommandPipeline(id, cancel ? JobCommand::kCancel : JobCommand::kResume,
                                     Answering(202, request.target, std::move(respond)));
  }
  if (request.method != "GET") return respond(WrongMethod(request, "GET, HEAD"));
  const auto view = pipelines.FindPipeline(id);
  if (!view) return respond(Problem(404, "there is no pipeline " + id + "; GET /v1/pipelines lists them", request.target));
  respond(Json(200, PipelineViewText(*view->pipeline, view->jobs, false)));
}

}  // namespace

bool IsPipelineRoute(const ApiRequest& request) {
  return request.path.size() >= 2 && request.path.size() <= 4 && request.path[0] == "v1" && request.path[1] == "pipelines";
}

void AnswerPipelines(PipelineService& pipelines, FileSystem& files, const ApiRequest& request, ApiRespond respond) {
  if (request.path.size() > 2) return AnswerOne(pipelines, request, std::move(respond));
  if (request.method == "GET") return respond(List(pipelines));
  if (request.method != "POST") return respond(WrongMethod(request, "GET, HEAD, POST"));
  Submit(pipelines, files, request, std::move(respond));
}

}  // namespace plateau
