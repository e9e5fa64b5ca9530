// Arguments and environment of a launched ingest worker.
#include "coordinator/launch/ingest_command.h"

#include <cstdlib>

#include <fmt/format.h>

#include "common/messages.h"

namespace plateau {
namespace {

constexpr const char* kPrefix = "ingest:";

}  // namespace

LaunchRequest IngestWorkerLaunch(const IngestWorkerDescription& worker) {
  LaunchRequest request;
  request.job = IngestLaunchName(worker.dataset, worker.slot);
  request.attempt = worker.attempt;
  request.folder = worker.folder;
  request.arguments = {worker.worker,   "ingest",
                       "--coordinator", worker.coordinator,
                       "--dataset",     worker.dataset,
                       "--slot",        std::to_string(worker.slot),
                       "--attempt",     std::to_string(worker.attempt),
                       "--jobs",        std::to_string(worker.threads)};
  request.environment = {{kTokenVariable, worker.token}, {kLogDirectoryVariable, worker.folder + "/logs"}};
  return request;
}

std::string IngestLaunchName(const std::string& dataset, int slot) { return fmt::format("{}{}/{}", kPrefix, dataset, slot); }

bool ParseIngestLaunchName(const std::string& name, std::string& dataset, int& slot) {
  const std::string prefix = kPrefix;
  const auto slash = name.rfind('/');
  if (!name.starts_with(prefix) || slash == std::string::npos || slash < prefix.size()) return false;
  dataset = name.substr(prefix.size(), slash - prefix.size());
  slot = std::atoi(name.c_str() + slash + 1);
  return slot > 0;
}

}  // namespace plateau
