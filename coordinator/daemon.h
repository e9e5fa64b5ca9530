// The coordinator put together: state folder, store, control loop, launcher, link, HTTP, ZeroMQ. main and the tests start it the
// same way.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "common/error.h"
#include "coordinator/control_loop.h"
#include "coordinator/ingest_loop.h"
#include "coordinator/web/assets.h"

namespace plateau {

struct DaemonOptions {
  std::string state_folder;             // made when it is not there; on a local disk
  std::string http = "127.0.0.1:7080";  // port 0: the one of the last start if it is free, otherwise any
  std::string link = "127.0.0.1:7081";  // likewise: running workers find the coordinator again
  std::string link_advertise;           // HOST or HOST:PORT by which workers on other hosts reach the link; empty: as `link`
  std::string hostfile;                 // Open MPI's: the hosts to use, besides the nodes of the store; empty: none
  std::string rsh_agent = "ssh";        // how other hosts are reached, with its options
  int64_t probe_timeout_ms = 30'000;    // of one answer of a host
  std::string zmq;                      // REST over ZeroMQ; empty: the host of `http` with port 7082, or 0 where http has port 0
  std::string program;                  // plateau-coordinator itself: its `supervise` verb runs the attempts
  std::string worker;                   // plateau-worker
  std::string mpirun = "mpirun";
  std::vector<std::string> allowed_origins;  // of web pages that may command it besides its own
  int cores = 0;                             // offered to jobs; 0: the machine's
  std::string gpus;                          // of this machine that are offered to jobs (common/gpus.h); empty: all
  bool allow_oversubscribe = true;
  MachineLimits limits;
  int64_t kill_grace_ms = 5'000;
  BoardLimits ingest_limits;
};

class Daemon {
 public:
  // kConflict: another coordinator uses the state folder, or an address is taken. Unfinished jobs are taken up again.
  static Result<std::unique_ptr<Daemon>> Start(const DaemonOptions& options, std::span<const WebAsset> assets);
  // Ends the threads. Attempts run on under their supervisors.
  ~Daemon();

  const std::string& http_endpoint() const;
  const std::string& link_endpoint() const;
  const std::string& zmq_endpoint() const;
  Service& service();
  DatasetService& datasets();

 private:
  struct Parts;
  explicit Daemon(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

// The address of the worker link for workers on other hosts: what is to be advertised, or what is listened on, with this machine's
// name in place of a wildcard. Empty: it listens on loopback only.
std::string RemoteLink(const std::string& endpoint, const std::string& advertise, const std::string& host_name);

// Physical cores this process may run on.
int MachineCores();

}  // namespace plateau
