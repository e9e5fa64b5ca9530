// A REST request and its answer as one JSON text each, for ZeroMQ. coordinator/API.md, "ZeroMQ", is the page. Both sides are here:
// the coordinator reads requests and writes answers, `plateau` the other way round.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <variant>

#include "common/error.h"
#include "coordinator/http/api_message.h"

namespace plateau {

struct FramedRequest {
  std::string id = "null";  // JSON text of the request's id, repeated in the answer
  ApiRequest request;
  bool head = false;  // HEAD: the answer goes without its body
};

// What is wrong with a request that cannot be served; the answer to send.
struct BrokenRequest {
  std::string id = "null";
  ApiResponse answer;
};

// {"id","method","path","query","headers","body"}: 400 for what is no such object, 413 for a body beyond max_body_bytes.
std::variant<FramedRequest, BrokenRequest> ReadRequestFrame(const std::string& text, size_t max_body_bytes);
// {"id","status","headers","body"}: a JSON body as a value, text as a string, other bytes in base64 with "encoding": "base64".
std::string WriteAnswerFrame(const std::string& id, const ApiResponse& answer, bool head);

// Headers: by name, any case. The body is sent as text, as it is.
std::string WriteRequestFrame(int64_t id, const std::string& method, const std::string& target,
                              const std::map<std::string, std::string>& headers, const std::string& body);

struct FramedAnswer {
  int64_t id = -1;  // -1: none, the coordinator could not read the request
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // as over HTTP
};
// kInvalidInput: it is no answer.
Result<FramedAnswer> ReadAnswerFrame(std::string_view text);

}  // namespace plateau
