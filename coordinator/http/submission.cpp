// Parsing and checking of a submitted job.
#include "coordinator/http/submission.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "common/checksum.h"

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
Status CheckAbsolute(const Json& document, const char* section, const char* field) {
  if (!document.is_object()) return {};
  const std::string dotted = section[0] == '\0' ? field : std::string(section) + "." + field;
  const Json* parent = section[0] == '\0' ? &document : document.contains(section) ? &document.at(section) : nullptr;
  if (parent == nullptr || !parent->is_object() || !parent->contains(field) || !parent->at(field).is_string()) return {};
  const std::string path = parent->at(field);
  if (path.starts_with("/")) return {};
  return Fail(ErrorCode::kInvalidInput,
              "{}: {}: \"{}\" is not an absolute path; over REST give one that begins with / and means the same on every node",
              kWhere, dotted, path);
}

Status CheckStore(FileSystem& files, const std::string& store) {
  if (!files.Exists(store)) {
    return Fail(ErrorCode::kInvalidInput,
                "{}: data.store: {} does not exist; ingest a data set there with `plateau dataset ingest`, or correct the path",
                kWhere, store);
  }
  if (files.Exists(store + "/manifest.json")) return {};
  return Fail(ErrorCode::kInvalidInput,
              "{}: data.store: {} has no manifest.json, so it is no finished store; run its ingest to the end, or correct the path",
              kWhere, store);
}

}  // namespace

std::string SpecFieldOf(const std::string& message) {
  const std::string prefix = std::string(kWhere) + ": ";
  if (!message.starts_with(prefix)) return {};
  const auto end = message.find(':', prefix.size());
  if (end == std::string::npos) return {};
  const std::string field = message.substr(prefix.size(), end - prefix.size());
  return field.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_.") == std::string::npos ? field : std::string();
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
  const auto force_text = request.query.find("force");
  const bool force = force_text != request.query.end() && force_text->second != "false" && force_text->second != "0";
  for (const auto& status : {CheckAbsolute(document, "", "output"), CheckAbsolute(document, "data", "store")})
    if (!status) return refuse(422, status.error().message);
  auto spec = ParseJobSpecJson(document, kWhere, force);
  if (!spec) return refuse(422, spec.error().message);
  if (auto store = CheckStore(files, spec->data.store); !store) return refuse(422, store.error().message);

  Submission submission;
  submission.spec = std::make_shared<const JobSpec>(std::move(*spec));
  submission.idempotency_key = request.idempotency_key;
  submission.body_digest =
      ChecksumText(Checksum(request.body)) + "-" + std::to_string(request.body.size()) + (force ? "-force" : "");
  return submission;
}

}  // namespace plateau
