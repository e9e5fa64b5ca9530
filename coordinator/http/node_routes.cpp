// Requests about nodes and their answers.
#include "coordinator/http/node_routes.h"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace plateau {
namespace {

constexpr int kMostCores = 65'536;

struct NodeBody {
  std::string name;
  int cores = 0;
  std::string gpus;  // the offer (common/gpus.h)
};

ApiResponse Json(int status, std::string body) {
  ApiResponse response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

ApiResponse WrongMethod(const ApiRequest& request, const std::string& allowed) {
  ApiResponse response = Problem(405, request.method + " is not possible here; allowed: " + allowed, request.target);
  response.headers.emplace_back("Allow", allowed);
  return response;
}

int StatusOf(ErrorCode code) {
  if (code == ErrorCode::kNotFound) return 404;
  if (code == ErrorCode::kConflict) return 409;
  return code == ErrorCode::kInvalidInput ? 422 : 500;
}

// A number, or a list of ids, as the text of an offer.
Result<std::string> ReadGpus(const nlohmann::json& gpus) {
  if (gpus.is_null()) return std::string();
  if (gpus.is_number_integer()) return gpus.dump();
  std::string offer;
  bool understood = gpus.is_array();
  for (const auto& id : understood ? gpus : nlohmann::json::array()) {
    understood = understood && (id.is_string() || id.is_number_unsigned());
    offer += (offer.empty() ? "" : ",") + (id.is_string() ? id.get<std::string>() : id.dump());
  }
  if (understood) return gpus.empty() ? "0" : gpus.size() == 1 ? offer + "," : offer;
  return Fail(ErrorCode::kInvalidInput,
              "request body: gpus: {} is neither a number nor a list of ids; leave it out for all the host has", gpus.dump());
}

Result<NodeBody> ReadBody(const ApiRequest& request) {
  const auto json = nlohmann::json::parse(request.body, nullptr, false);
  if (!json.is_object())
    return Fail(ErrorCode::kInvalidInput,
                "request body: not a JSON object; send {{\"name\": HOST, \"cores\": N, \"gpus\": N or [IDS]}}");
  for (const auto& [key, value] : json.items())
    if (key != "name" && key != "cores" && key != "gpus")
      return Fail(ErrorCode::kInvalidInput, "request body: {}: no such field; a node has name, cores and gpus", key);
  NodeBody body;
  if (!json.contains("name") || !json.at("name").is_string())
    return Fail(ErrorCode::kInvalidInput, "request body: name: missing, or no text; give the host's name");
  body.name = json.at("name");
  if (json.contains("gpus")) {
    PLATEAU_ASSIGN(body.gpus, ReadGpus(json.at("gpus")));
    PLATEAU_TRY(CheckGpuOffer(body.gpus, "request body: gpus"));
  }
  if (!json.contains("cores") || json.at("cores").is_null()) return body;
  const auto& cores = json.at("cores");
  if (!cores.is_number_integer() || cores < 1 || cores > kMostCores)
    return Fail(ErrorCode::kInvalidInput, "request body: cores: {} is no whole number from 1 to {}; leave it out for all the host has",
                cores.dump(), kMostCores);
  body.cores = cores;
  return body;
}

NodeService::Answer Answering(int status, const std::string& target, ApiRespond respond) {
  return [status, target, respond = std::move(respond)](Result<NodeStatus> node) {
    if (!node) return respond(Problem(StatusOf(node.error().code), node.error().message, target));
    ApiResponse response = Json(status, NodeViewText(*node));
    if (status == 201) response.headers.emplace_back("Location", "/v1/nodes/" + node->node.name);
    respond(std::move(response));
  };
}

void AnswerOne(NodeService& nodes, const ApiRequest& request, ApiRespond respond) {
  const std::string& name = request.path[2];
  if (request.method == "DELETE") return nodes.RemoveNode(name, Answering(200, request.target, std::move(respond)));
  if (request.method != "GET") return respond(WrongMethod(request, "GET, HEAD, DELETE"));
  const auto list = nodes.ListNodes();
  const auto found = std::find_if(list.begin(), list.end(), [&](const NodeStatus& one) { return one.node.name == name; });
  if (found == list.end())
    return respond(Problem(404, "there is no node " + name + "; GET /v1/nodes lists them", request.target));
  respond(Json(200, NodeViewText(*found)));
}

}  // namespace

bool IsNodeRoute(const ApiRequest& request) {
  return (request.path.size() == 2 || request.path.size() == 3) && request.path[0] == "v1" && request.path[1] == "nodes";
}

void AnswerNodes(NodeService& nodes, const ApiRequest& request, ApiRespond respond) {
  if (request.path.size() == 3) return AnswerOne(nodes, request, std::move(respond));
  if (request.method == "GET") return respond(Json(200, NodeListText(nodes.ListNodes())));
  if (request.method != "POST") return respond(WrongMethod(request, "GET, HEAD, POST"));
  const auto body = ReadBody(request);
  if (!body) return respond(Problem(422, body.error().message, request.target));
  nodes.AddNode(body->name, body->cores, body->gpus, Answering(201, request.target, std::move(respond)));
}

}  // namespace plateau
