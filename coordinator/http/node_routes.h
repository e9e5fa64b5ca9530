// The routes of nodes: GET and POST /v1/nodes, GET and DELETE /v1/nodes/{name}.
#pragma once

#include "coordinator/http/api_message.h"
#include "coordinator/node/node_service.h"

namespace plateau {

bool IsNodeRoute(const ApiRequest& request);
// `respond` is called now or when the control loop has decided. `nodes` outlives that.
void AnswerNodes(NodeService& nodes, const ApiRequest& request, ApiRespond respond);

}  // namespace plateau
