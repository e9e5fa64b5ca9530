// What the state machine makes of hosts: the verdict on silent ones, and the doubt about all hosts of an attempt that went wrong.
#include "coordinator/job/hosts.h"
#include "coordinator/job/turn.h"

namespace plateau {
namespace {

// mpirun notices a lost host by its keepalive after about 8 s and ends the others within 2 s: their ranks were heard that much later.
constexpr int64_t kLeftBehindMs = 3'000;

}  // namespace

void Turn::ConvictHosts(const std::vector<SilentHost>& hosts) {
  Attempt& attempt = *job().Current();
  DoubtHosts doubt{.lost = true};
  for (const auto& host : hosts) {
    const std::string message = Describe(host);
    doubt.nodes.push_back(host.node);
    doubt.message += (doubt.message.empty() ? "" : "; ") + message;
    Record("lost_host", message,
           {{"host", host.node},
            {"ranks", RankList(host.ranks)},
            {"step", host.longest->step},
            {"phase", host.longest->phase},
            {"silent_s", static_cast<double>(host.silent_ms) / 1000.0}});
  }
  attempt.reason = "LOST_HOST";
  attempt.message = doubt.message;
  attempt.state = "STOPPING";
  if (job().stop == StopTarget::kNone) {
    job().state = JobState::kStopping;
    job().reason = attempt.reason;
    job().message = attempt.message;
  }
  Do(std::move(doubt));
}

// The attempt ends without having finished: an unexplained end may be a host's that the others left behind, and every remote host
// is to answer before something is started on it again.
void Turn::DoubtHostsOfEnd() {
  const Attempt& attempt = *job().Current();
  const auto remote = RemoteNodes(attempt);
  if (remote.empty()) return;
  if (attempt.reason.empty() && job().stop == StopTarget::kNone)
    if (const auto lost = HostsLeftBehind(job(), now_.monotonic_ms, kLeftBehindMs); !lost.empty()) ConvictHosts(lost);
  Do(DoubtHosts{.nodes = remote});
}

}  // namespace plateau
