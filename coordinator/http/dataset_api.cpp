// Orders read and checked; answers of each route.
#include "coordinator/http/dataset_api.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/checksum.h"
#include "common/job_spec.h"
#include "coordinator/http/api.h"
#include "coordinator/http/submission.h"
#include "coordinator/ingest/dataset_view.h"

namespace plateau {
namespace {

ApiResponse Json(int status, std::string body) {
  ApiResponse response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

}  // namespace

std::variant<DatasetSubmission, ApiResponse> ReadDatasetSubmission(const ApiRequest& request) {
  const auto refuse = [&](int status, const std::string& message) {
    return Problem(status, message, request.target, SpecFieldOf(message));
  };
  auto document = ReadDocument(request);
  if (auto* problem = std::get_if<ApiResponse>(&document)) return std::move(*problem);
  auto order = IngestOrderFromJson(std::get<nlohmann::json>(document), "request body");
  if (!order) return refuse(422, order.error().message);
  DatasetSubmission submission;
  submission.order = std::make_shared<const IngestOrder>(std::move(*order));
  submission.idempotency_key = request.idempotency_key;
  submission.body_digest = ChecksumText(Checksum(request.body)) + "-" + std::to_string(request.body.size());
  return submission;
}

DatasetApi::DatasetApi(DatasetService& service)
    : service_(service),
      events_(std::make_shared<EventPages>(
          [this](const std::string& id) {
            const auto dataset = service_.FindDataset(id);
            return dataset == nullptr ? int64_t{-1} : dataset->last_event;
          },
          [this](const std::string& id, int64_t after, size_t limit) { return service_.DatasetEventTexts(id, after, limit); })) {}

void DatasetApi::Attach(IoThread& io) {
  events_->Attach(io);
  service_.OnDatasetEvent([&io, weak = std::weak_ptr(events_)](const std::string& id) {
    io.Post([weak, id] {
      if (auto events = weak.lock()) events->Wake(id);
    });
  });
}

void DatasetApi::Handle(const ApiRequest& request, ApiRespond respond) {
  const auto& path = request.path;
  if (path.size() == 2) return Collection(request, std::move(respond));
  const bool one = path.size() == 3, events = path.size() == 4 && path[3] == "events",
             cancel = path.size() == 4 && path[3] == "cancel";
  if (!one && !events && !cancel) return respond(NoRoute(request));
  if (request.method != (cancel ? "POST" : "GET")) return respond(WrongMethod(request, cancel ? "POST" : "GET, HEAD"));
  const auto dataset = service_.FindDataset(path[2]);
  if (dataset == nullptr)
    return respond(Problem(404, "there is no ingest " + path[2] + "; GET /v1/datasets lists them", request.target));
  if (cancel) return Cancel(request, std::move(respond));
  if (events) return events_->Answer(request, dataset->id, std::move(respond));
  respond(Json(200, DatasetViewText(*dataset, service_.Now(), false)));
}

void DatasetApi::Collection(const ApiRequest& request, ApiRespond respond) {
  if (request.method == "GET") return respond(Json(200, DatasetListText(service_.AllDatasets(), service_.Now())));
  if (request.method != "POST") return respond(WrongMethod(request, "GET, HEAD, POST"));
  auto read = ReadDatasetSubmission(request);
  if (auto* problem = std::get_if<ApiResponse>(&read)) return respond(std::move(*problem));
  service_.SubmitDataset(std::move(std::get<DatasetSubmission>(read)), [self = shared_from_this(), target = request.target,
                                                                        respond](Result<DatasetAnswer> answer) {
    if (!answer)
      return respond(
          Problem(HttpStatusOf(answer.error().code), answer.error().message, target, SpecFieldOf(answer.error().message)));
    ApiResponse response = Json(answer->repeated ? 200 : 201, DatasetViewText(*answer->dataset, self->service_.Now(), false));
    response.headers.emplace_back("Location", "/v1/datasets/" + answer->dataset->id);
    respond(std::move(response));
  });
}

void DatasetApi::Cancel(const ApiRequest& request, ApiRespond respond) {
  service_.CancelDataset(request.path[2], [self = shared_from_this(), target = request.target,
                                           respond](Result<std::shared_ptr<const Dataset>> dataset) {
    if (!dataset) return respond(Problem(HttpStatusOf(dataset.error().code), dataset.error().message, target));
    respond(Json(202, DatasetViewText(**dataset, self->service_.Now(), false)));
  });
}

}  // namespace plateau
