// The same requests as http_client.h over ZeroMQ: one request, one answer, with a deadline.
#pragma once

#include "coordinator/cli/http_client.h"

namespace plateau {

// Sends one request over a socket of its own and waits for the answer; the endpoint is a tcp:// one. kUnavailable when nobody
// listens, the peer goes away or does not answer in time, with a message that names the address; any status is an answer, not an
// error. Thread-safe, blocks up to request.timeout_ms.
Result<ClientResponse> SendZmq(const Endpoint& endpoint, const ClientRequest& request);

}  // namespace plateau
