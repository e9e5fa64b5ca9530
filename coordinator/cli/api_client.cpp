// Requests, problem documents and abbreviated job names.
#include "coordinator/cli/api_client.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "common/text.h"
#include "coordinator/cli/zmq_client.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

ErrorCode CodeOf(int status) {
  switch (status) {
    case 400:
    case 413:
    case 415:
    case 422: return ErrorCode::kInvalidInput;
    case 404: return ErrorCode::kNotFound;
    case 409: return ErrorCode::kConflict;
    case 503: return ErrorCode::kUnavailable;
    default: return ErrorCode::kInternal;
  }
}

Result<Json> ReadJson(const ClientResponse& response, const std::string& target) {
  PLATEAU_TRY(ToStatus(response, target));
  Json value = Json::parse(response.body, nullptr, false);
  if (value.is_discarded())
    return Fail(ErrorCode::kInternal, "{}: the answer is not JSON; is something other than a Plateau coordinator listening there?",
                target);
  return value;
}

std::vector<std::string> IdsOf(const Json& list) {
  std::vector<std::string> ids;
  for (const auto& job : list.value("jobs", Json::array())) ids.push_back(job.value("id", ""));
  return ids;
}

}  // namespace

Status ToStatus(const ClientResponse& response, const std::string& target) {
  if (response.status < 400) return {};
  const Json problem = Json::parse(response.body, nullptr, false);
  std::string text;
  if (problem.is_object()) {
    text = problem.value("detail", problem.value("title", ""));
    const std::string field = problem.value("field", "");
    if (!field.empty() && text.find(field) == std::string::npos) text = field + ": " + text;
  }
  if (text.empty()) text = fmt::format("{}: the coordinator answered {}", target, response.status);
  return Fail(CodeOf(response.status), "{}", text);
}

Result<ClientResponse> ApiClient::Send(const ClientRequest& request) const {
  return endpoint_.zmq ? SendZmq(endpoint_, request) : SendHttp(endpoint_, request);
}

Result<ClientResponse> ApiClient::GetRaw(const std::string& target, int timeout_ms) const {
  ClientRequest request;
  request.target = target;
  request.timeout_ms = timeout_ms;
  return Send(request);
}

Result<Json> ApiClient::Get(const std::string& target, int timeout_ms) const {
  PLATEAU_ASSIGN(const auto response, GetRaw(target, timeout_ms));
  return ReadJson(response, endpoint_.Url() + target);
}

Result<Json> ApiClient::Post(const std::string& target, const std::string& body,
                             const std::map<std::string, std::string>& headers) const {
  ClientRequest request;
  request.method = "POST";
  request.target = target;
  request.body = body;
  request.headers = headers;
  PLATEAU_ASSIGN(const auto response, Send(request));
  return ReadJson(response, endpoint_.Url() + target);
}

Result<Json> ApiClient::Delete(const std::string& target) const {
  ClientRequest request;
  request.method = "DELETE";
  request.target = target;
  PLATEAU_ASSIGN(const auto response, SendHttp(endpoint_, request));
  return ReadJson(response, endpoint_.Url() + target);
}

Result<std::string> ApiClient::ResolveJob(const std::string& text) const {
  PLATEAU_ASSIGN(const Json list, Get("/v1/jobs"));
  return MatchJob(text, IdsOf(list));
}

Result<std::string> MatchJob(const std::string& text, const std::vector<std::string>& ids) {
  if (ids.empty())
    return Fail(ErrorCode::kNotFound, "job \"{}\": the coordinator has no jobs; submit one with `plateau submit SPEC.yaml`", text);
  if (text == "last") return ids.front();
  if (std::find(ids.begin(), ids.end(), text) != ids.end()) return text;
  // "vgg-a" means the run vgg-a-3 when it is the only run of that name, whatever other names begin the same way.
  std::vector<std::string> runs, prefixed;
  for (const auto& id : ids) {
    if (id.substr(0, id.rfind('-')) == text) runs.push_back(id);
    if (id.starts_with(text)) prefixed.push_back(id);
  }
  const auto& candidates = runs.empty() ? prefixed : runs;
  if (candidates.size() == 1) return candidates.front();
  if (candidates.empty()) {
    const std::string nearest = NearestName(text, ids);
    return Fail(ErrorCode::kNotFound, "no job \"{}\"{}; `plateau jobs` lists them", text,
                nearest.empty() ? "" : ", did you mean " + nearest);
  }
  return Fail(ErrorCode::kInvalidInput, "\"{}\" could be any of {}; write more of it", text, JoinNames(candidates));
}

std::string JobPath(const std::string& id, const std::string& tail) { return "/v1/jobs/" + EscapeUrl(id) + tail; }

}  // namespace plateau
