// Requests and responses as the API sees them, whatever carried them (HTTP, ZeroMQ).
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plateau {

struct ApiRequest {
  std::string method;                        // "GET"; HEAD arrives as GET with `head` set
  std::string target;                        // as sent: "/v1/jobs/a-1/events?after=3"
  std::vector<std::string> path;             // decoded segments: {"v1", "jobs", "a-1", "events"}
  std::map<std::string, std::string> query;  // decoded; the last of equal names counts
  std::string content_type;                  // lower case, without parameters
  std::string idempotency_key;
  std::string body;
};

struct ApiResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
};

// May be called from any thread, once.
using ApiRespond = std::function<void(ApiResponse)>;

// Splits and decodes a target into path and query. False: bad percent encoding or no leading slash.
bool ParseTarget(const std::string& target, std::vector<std::string>& path, std::map<std::string, std::string>& query);

// "application/json" of "Application/JSON; charset=utf-8".
std::string LowerMediaType(std::string_view header);

// How deep brackets and braces are nested outside of strings. Known before parsing, because JSON values are copied and freed
// recursively.
int JsonNestingDepth(std::string_view text);

// An RFC 9457 problem document; `field` names the field of the job specification at fault, when there is one.
ApiResponse Problem(int status, const std::string& detail, const std::string& instance, const std::string& field = {});

}  // namespace plateau
