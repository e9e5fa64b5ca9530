// Asks hosts whether they answer, the way mpirun will reach them: by the remote agent.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "coordinator/node/registry.h"

namespace plateau {

// Thread-safe. The notice function is called once for each Probe from a thread of the implementation and must not block.
class Prober {
 public:
  using Notice = std::function<void(const ProbeAnswer&)>;
  virtual ~Prober() = default;
  virtual void Probe(const std::string& node) = 0;
};

struct AgentProberOptions {
  std::string agent = "ssh";    // program and options, split at spaces; run as AGENT HOST COMMAND
  std::string worker{};         // path of plateau-worker there, which knows the GPUs; empty: they are not asked for
  int64_t timeout_ms = 30'000;  // of one answer
  size_t max_at_once = 32;      // further probes wait for a free place
};

// Runs `AGENT HOST "lscpu -p=CORE,SOCKET && sh -c 'timeout 20 WORKER devices --json || ...'"`, in a process group of its own that
// is killed when its time is over. An exit code of 0 is an answer; the distinct lines of lscpu are the host's cores. A worker that
// is missing there, fails or hangs (also where nothing can end it: a driver that does not come back) leaves the host without a
// report of its GPUs, with what it said as the reason. This machine (kLocalNode) is asked for its GPUs alone, by a shell.
class AgentProber final : public Prober {
 public:
  AgentProber(AgentProberOptions options, Notice notice);
  // Kills what is under way; no notice comes afterwards.
  ~AgentProber() override;
  void Probe(const std::string& node) override;

 private:
  class Watch;
  std::unique_ptr<Watch> watch_;
};

// "ssh" with what keeps it from asking for a password and from waiting for long; any other agent as it is.
std::string AgentCommand(const std::string& agent);
// What the remote shell runs.
std::string ProbeQuestion(const std::string& worker, bool local);
// Distinct "core,socket" lines of lscpu's output; 0: none.
int CountCores(const std::string& lscpu);

}  // namespace plateau
