// The command line of an ingest worker that the coordinator launches on its own node.
#pragma once

#include <string>

#include "coordinator/launch/launcher.h"

namespace plateau {

struct IngestWorkerDescription {
  std::string dataset;
  int slot = 0, attempt = 0;
  std::string folder;       // the attempt's
  std::string worker;       // path of plateau-worker
  std::string coordinator;  // tcp://HOST:PORT of the worker link
  std::string token;
  int threads = 1;
};

// One process of its own for each worker, not ranks of one mpirun: mpirun ends every rank when one dies, and these need nothing of
// each other.
LaunchRequest IngestWorkerLaunch(const IngestWorkerDescription& worker);

// The launcher's name of a slot, "ingest:<dataset>/<slot>", and back; false when it is a job's.
std::string IngestLaunchName(const std::string& dataset, int slot);
bool ParseIngestLaunchName(const std::string& name, std::string& dataset, int& slot);

}  // namespace plateau
