// The coordinator's REST interface as calls, over HTTP or ZeroMQ: JSON in, JSON or an Error out.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "common/error.h"
#include "coordinator/cli/http_client.h"

namespace plateau {

// Talks to one coordinator. Thread-safe; each call blocks up to its timeout. An answer of 400 and above becomes an Error whose
// message is the problem document's detail (RFC 9457): 404 kNotFound, 400 and 422 kInvalidInput, 409 kConflict, 503 kUnavailable.
class ApiClient {
 public:
  explicit ApiClient(Endpoint endpoint) : endpoint_(std::move(endpoint)) {}

  Result<nlohmann::ordered_json> Get(const std::string& target, int timeout_ms = 30'000) const;
  Result<nlohmann::ordered_json> Post(const std::string& target, const std::string& body = {},
                                      const std::map<std::string, std::string>& headers = {}) const;
  Result<nlohmann::ordered_json> Delete(const std::string& target) const;
  // The answer as it came, for plain text with its headers.
  Result<ClientResponse> GetRaw(const std::string& target, int timeout_ms = 30'000) const;

  // The id of the job that `text` means: an id, the name of a job's only run, a prefix that only one job has, or "last" for the
  // newest. kNotFound and kInvalidInput name the candidates.
  Result<std::string> ResolveJob(const std::string& text) const;

  const Endpoint& endpoint() const { return endpoint_; }

 private:
  Result<ClientResponse> Send(const ClientRequest& request) const;

  Endpoint endpoint_;
};

// "/v1/jobs/<id>" + tail, the id escaped.
std::string JobPath(const std::string& id, const std::string& tail = {});

// Which of `ids` (newest first) `text` means; the rule of ResolveJob.
Result<std::string> MatchJob(const std::string& text, const std::vector<std::string>& ids);

// The Error a response stands for, empty below 400.
Status ToStatus(const ClientResponse& response, const std::string& target);

}  // namespace plateau
