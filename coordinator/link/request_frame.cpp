// JSON forms of requests and answers.
#include "coordinator/link/request_frame.h"

#include <algorithm>

#include <nlohmann/json.hpp>
#include <openssl/evp.h>

namespace plateau {
namespace {

using Json = nlohmann::json;  // sorted: an ordered one takes quadratic time for many keys
constexpr int kMaxDepth = 64;
constexpr size_t kMaxIdBytes = 256;

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::string ToBase64(const std::string& bytes) {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int length = ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                       reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(length));
  return text;
}

Result<std::string> FromBase64(const std::string& text) {
  std::string bytes(text.size() / 4 * 3 + 3, '\0');
  const int length = ::EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                       reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (length < 0) return Fail(ErrorCode::kInvalidInput, "answer: its body is no base64");
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  bytes.resize(static_cast<size_t>(length) - padding);
  return bytes;
}

// The texts of a flat object: a number or boolean stands for its text.
bool ReadTexts(const Json& object, std::map<std::string, std::string>& out) {
  if (!object.is_object()) return false;
  for (const auto& [name, value] : object.items()) {
    if (value.is_object() || value.is_array()) return false;
    if (!value.is_null()) out[name] = value.is_string() ? value.get<std::string>() : value.dump();
  }
  return true;
}

// Fills `request` from the fields; the complaint, or nothing.
std::string ReadFields(const Json& json, FramedRequest& framed) {
  ApiRequest& request = framed.request;
  for (const auto& [name, value] : json.items()) {
    const bool text = name == "method" || name == "path";
    if (text && !value.is_string()) return "\"" + name + "\" is not text";
    if (!text && name != "id" && name != "query" && name != "headers" && name != "body")
      return "\"" + name + "\" is not a field of a request; id, method, path, query, headers and body are";
  }
  request.method = json.value("method", "GET");
  framed.head = request.method == "HEAD";
  if (framed.head) request.method = "GET";
  request.target = json.value("path", "");
  if (request.target.empty()) return "there is no \"path\"; write one such as \"/v1/jobs\"";
  if (!ParseTarget(request.target, request.path, request.query)) return "\"path\" cannot be read; write one such as \"/v1/jobs\"";
  if (json.contains("query") && !json.at("query").is_null() && !ReadTexts(json.at("query"), request.query))
    return "\"query\" is not an object of texts and numbers";
  std::map<std::string, std::string> headers;
  if (json.contains("headers") && !json.at("headers").is_null() && !ReadTexts(json.at("headers"), headers))
    return "\"headers\" is not an object of texts";
  const auto body = json.find("body");
  const bool value = body != json.end() && !body->is_null() && !body->is_string();
  if (body != json.end() && !body->is_null()) request.body = value ? body->dump() : body->get<std::string>();
  if (value) request.content_type = "application/json";
  for (const auto& [name, text] : headers) {
    if (Lower(name) == "content-type") request.content_type = LowerMediaType(text);
    if (Lower(name) == "idempotency-key") request.idempotency_key = text;
  }
  return {};
}

}  // namespace

std::variant<FramedRequest, BrokenRequest> ReadRequestFrame(const std::string& text, size_t max_body_bytes) {
  FramedRequest framed;
  const auto refuse = [&framed](int status, const std::string& detail) {
    return BrokenRequest{framed.id, Problem(status, "request: " + detail, framed.request.target)};
  };
  if (JsonNestingDepth(text) > kMaxDepth) return refuse(400, fmt::format("nested deeper than {} levels", kMaxDepth));
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object())
    return refuse(400, R"(a message is one frame of JSON, such as {"id": 1, "method": "GET", "path": "/v1/jobs"})");
  if (json.contains("id")) {
    const Json& id = json.at("id");
    const std::string dumped = id.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (id.is_object() || id.is_array() || dumped.size() > kMaxIdBytes)
      return refuse(400, fmt::format("\"id\" must be a number or a text of at most {} bytes", kMaxIdBytes - 2));
    framed.id = dumped;
  }
  if (const std::string complaint = ReadFields(json, framed); !complaint.empty()) return refuse(400, complaint);
  if (framed.request.body.size() > max_body_bytes)
    return refuse(413, fmt::format("the body is larger than {} bytes", max_body_bytes));
  return framed;
}

std::string WriteAnswerFrame(const std::string& id, const ApiResponse& answer, bool head) {
  Json headers{{"Content-Type", answer.content_type}};
  for (const auto& [name, value] : answer.headers) headers[name] = value;
  std::string frame = fmt::format(R"({{"id":{},"status":{},"headers":{})", id, answer.status,
                                  headers.dump(-1, ' ', false, Json::error_handler_t::replace));
  const std::string media = LowerMediaType(answer.content_type);
  if (head || answer.body.empty()) return frame + "}";
  if (media == "application/json" || media == "application/problem+json") return frame + ",\"body\":" + answer.body + "}";
  try {
    return frame + ",\"body\":" + Json(answer.body).dump() + "}";
  } catch (const Json::type_error&) {  // not UTF-8: a log may hold anything, and a piece of one may begin inside a character
    return frame + R"(,"encoding":"base64","body":")" + ToBase64(answer.body) + "\"}";
  }
}

std::string WriteRequestFrame(int64_t id, const std::string& method, const std::string& target,
                              const std::map<std::string, std::string>& headers, const std::string& body) {
  Json json{{"id", id}, {"method", method}, {"path", target}};
  if (!headers.empty()) json["headers"] = headers;
  if (!body.empty()) json["body"] = body;
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<FramedAnswer> ReadAnswerFrame(std::string_view text) {
  using Ordered = nlohmann::ordered_json;  // fields are shown in the order in which the coordinator wrote them
  try {
    const Ordered json = Ordered::parse(text);
    FramedAnswer answer;
    if (json.at("id").is_number_integer()) answer.id = json.at("id");
    answer.status = json.at("status");
    for (const auto& [name, value] : json.at("headers").items()) answer.headers[Lower(name)] = value.get<std::string>();
    const auto body = json.find("body");
    if (body == json.end()) return answer;
    answer.body = body->is_string() ? body->get<std::string>() : body->dump();
    if (json.value("encoding", "") == "base64") {
      PLATEAU_ASSIGN(answer.body, FromBase64(answer.body));
    }
    return answer;
  } catch (const nlohmann::json::exception& error) {
    return Fail(ErrorCode::kInvalidInput, "answer: {}", error.what());
  }
}

}  // namespace plateau
