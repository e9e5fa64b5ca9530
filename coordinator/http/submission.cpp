// Parsing and checking of a submitted job.
#include "coordinator/http/submission.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "common/checksum.h"
#include "coordinator/pipeline/expand.h"

namespace plateau {
namespace {

using Json = nlohmann::json;  // sorted: an ordered one takes quadratic time for many keys
constexpr const char* kWhere = "request body";
constexpr int kMaxDepth = 32;

bool IsJson(const std::string& type) { return type == "application/json"; }
bool IsYaml(const std::string& type) {
  return type == "application/yaml" || type == "application/x-yaml" || type == "text/yaml" || type == "text/x-yaml";
}

Result<Json> ParseBody(const ApiRequest& request) {
  if (IsYaml(request.content_type)) {
    PLATEAU_ASSIGN(const auto document, YamlToJson(request.body, kWhere));
    return Json(document);
  }
  if (JsonNestingDepth(request.body) > kMaxDepth)
    return Fail(ErrorCode::kInvalidInput, "{}: nested deeper than {} levels", kWhere, kMaxDepth);
  try {
    return Json::parse(request.body);
  } catch (const nlohmann::json::exception& error) {
    std::string text = error.what();  // "[json.exception.parse_error.101] parse error at line 3, column 5: ..."
    if (const auto end = text.find("] "); end != std::string::npos) text = text.substr(end + 2);
    return Fail(ErrorCode::kInvalidInput, "{}: not valid JSON: {}", kWhere, text);
  }
}

// The coordinator's current folder means nothing to a client.
Status CheckAbsolute(const Json& document) {
  static const std::vector<std::vector<std::string>> kPaths{
      {"output"}, {"data", "store"}, {"evaluate", "store"}, {"evaluate", "checkpoint"}, {"model", "init_from", "checkpoint"}};
  for (const auto& path : kPaths) {
    const Json* at = &document;
    for (const auto& part : path) at = at != nullptr && at->is_object() && at->contains(part) ? &at->at(part) : nullptr;
    if (at == nullptr || !at->is_string() || at->get<std::string>().starts_with("/")) continue;
    return Fail(ErrorCode::kInvalidInput,
                "{}: {}: \"{}\" is not an absolute path; over REST give one that begins with / and means the same on every node",
                kWhere, fmt::format("{}", fmt::join(path, ".")), at->get<std::string>());
  }
  return {};
}

Status CheckStore(FileSystem& files, const std::string& where, const char* field, const std::string& store) {
  if (!files.Exists(store)) {
    return Fail(ErrorCode::kInvalidInput,
                "{}: {}: {} does not exist; ingest a data set there with `plateau dataset ingest`, or correct the path", where, field, store);
  }
  if (files.Exists(store + "/manifest.json")) return {};
  return Fail(ErrorCode::kInvalidInput,
              "{}: {}: {} has no manifest.json, so it is no finished store; run its ingest to the end, or correct the path", where, field, store);
}

Status CheckCheckpoint(FileSystem& files, const std::string& where, const char* field, const std::string& folder) {
  if (folder.empty() || files.Exists(folder)) return {};
  return Fail(ErrorCode::kInvalidInput, "{}: {}: {} does not exist; give the folder of a checkpoint or of a run", where, field, folder);
}

// What a job reads is there before it is queued.
Status CheckInputs(FileSystem& files, const std::string& where, const JobSpec& spec) {
  if (spec.kind == "evaluate") {
    PLATEAU_TRY(CheckStore(files, where, "evaluate.store", spec.evaluate.store));
    return CheckCheckpoint(files, where, "evaluate.checkpoint", spec.evaluate.checkpoint);
  }
  PLATEAU_TRY(CheckStore(files, where, "data.store", spec.data.store));
  if (!spec.model.init_from) return {};
  return CheckCheckpoint(files, where, "model.init_from.checkpoint", spec.model.init_from->checkpoint);
}

bool IsForced(const ApiRequest& request) {
  const auto force = request.query.find("force");
  return force != request.query.end() && force->second != "false" && force->second != "0";
}

std::string DigestOf(const ApiRequest& request) {
  return ChecksumText(Checksum(request.body)) + "-" + std::to_string(request.body.size()) + (IsForced(request) ? "-force" : "");
}

std::string NextPart(const std::string& message, size_t& at) {
  const auto end = message.find(": ", at);
  if (end == std::string::npos) return {};
  std::string part = message.substr(at, end - at);
  at = end + 2;
  constexpr const char* kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-[]";
  return part.find_first_not_of(kAllowed) == std::string::npos ? part : std::string();
}

}  // namespace

std::string SpecFieldOf(const std::string& message) {
  const std::string prefix = std::string(kWhere) + ": ";
  if (!message.starts_with(prefix)) return {};
  size_t at = prefix.size();
  std::string field = NextPart(message, at);
  if (!field.starts_with("jobs.") && !field.starts_with("fusions.")) return field;
  const std::string inner = NextPart(message, at);
  return inner.empty() ? field : field + "." + inner;
}

std::variant<Json, ApiResponse> ReadDocument(const ApiRequest& request) {
  const auto refuse = [&](int status, const std::string& message) {
    return Problem(status, message, request.target, SpecFieldOf(message));
  };
  if (!IsJson(request.content_type) && !IsYaml(request.content_type)) {
    return refuse(415, "content type '" + request.content_type + "' is not accepted; send application/json or application/yaml");
  }
  if (request.idempotency_key.size() > 255) return refuse(400, "Idempotency-Key is longer than 255 characters");
  auto document = ParseBody(request);
  if (!document) return refuse(400, document.error().message);
  return std::move(*document);
}

std::variant<Submission, ApiResponse> ReadSubmission(const ApiRequest& request, FileSystem& files) {
  const auto refuse = [&](int status, const std::string& message) {
    return Problem(status, message, request.target, SpecFieldOf(message));
  };
  auto body = ReadDocument(request);
  if (auto* problem = std::get_if<ApiResponse>(&body)) return std::move(*problem);
  const Json& document = std::get<Json>(body);
  if (auto absolute = CheckAbsolute(document); !absolute) return refuse(422, absolute.error().message);
  auto spec = ParseJobSpecJson(document, kWhere, IsForced(request));
  if (!spec) return refuse(422, spec.error().message);
  if (auto inputs = CheckInputs(files, kWhere, *spec); !inputs) return refuse(422, inputs.error().message);
  Submission submission;
  submission.spec = std::make_shared<const JobSpec>(std::move(*spec));
  submission.idempotency_key = request.idempotency_key;
  submission.body_digest = DigestOf(request);
  return submission;
}

std::variant<PipelineSubmission, ApiResponse> ReadPipeline(const ApiRequest& request, FileSystem& files) {
  const auto refuse = [&](const std::string& message) { return Problem(422, message, request.target, SpecFieldOf(message)); };
  auto body = ReadDocument(request);
  if (auto* problem = std::get_if<ApiResponse>(&body)) return std::move(*problem);
  auto plan = ExpandPipeline(std::get<Json>(body), kWhere, IsForced(request));
  if (!plan) return refuse(plan.error().message);
  for (const auto& job : plan->jobs)
    if (auto inputs = CheckInputs(files, std::string(kWhere) + ": jobs." + job.name, job.spec); !inputs) return refuse(inputs.error().message);
  return PipelineSubmission{std::make_shared<const PipelinePlan>(std::move(*plan)), request.idempotency_key, DigestOf(request)};
}

}  // namespace plateau
