// What the doors of the coordinator may ask about nodes. The control loop answers.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "coordinator/node/node.h"

namespace plateau {

// Thread-safe. Callbacks run on the control loop's thread and must not block.
class NodeService {
 public:
  using Answer = std::function<void(Result<NodeStatus>)>;
  virtual ~NodeService() = default;
  // Adds a node or changes what it offers: cores (0: as many as the host says it has) and GPUs (common/gpus.h; empty: all that the host
  // tells). kInvalidInput: no host name, no such offer. kConflict: it is another machine and could not reach the worker link.
  virtual void AddNode(const std::string& name, int cores, const std::string& gpus, Answer answer) = 0;
  // It takes no new work; what runs on it runs on. kNotFound: there is none of this name. Answers with the node as it was.
  virtual void RemoveNode(const std::string& name, Answer answer) = 0;
  // In the order of addition; without any, the coordinator's machine as the implicit one.
  virtual std::vector<NodeStatus> ListNodes() const = 0;
};

}  // namespace plateau
