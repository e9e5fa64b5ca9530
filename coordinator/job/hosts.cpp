// Grouping ranks by node and judging whole nodes by their ranks' silence.
#include "coordinator/job/hosts.h"

#include <algorithm>

#include "coordinator/job/hang.h"

namespace plateau {
namespace {

// Calls visit(share, first rank) for each share of the current attempt that runs on another machine and whose ranks are watched.
template <typename Visit>
void ForRemoteShares(const Job& job, Visit visit) {
  const Attempt* attempt = job.Current();
  if (attempt == nullptr) return;
  size_t first = 0;
  for (const auto& share : attempt->shares) {
    const size_t after = first + static_cast<size_t>(share.workers);
    if (share.node != kLocalNode && share.workers > 0 && after <= job.workers.size()) visit(share, first);
    first = after;
  }
}

SilentHost MakeSilentHost(const Job& job, const NodeShare& share, size_t first, int64_t now_ms) {
  SilentHost host{.node = share.node, .longest = &job.workers[first]};
  for (size_t i = first; i < first + static_cast<size_t>(share.workers); ++i) {
    host.ranks.push_back(job.workers[i].rank);
    if (job.workers[i].heard_ms < host.longest->heard_ms) host.longest = &job.workers[i];
  }
  host.silent_ms = now_ms - host.longest->heard_ms;
  return host;
}

}  // namespace

int WorldSize(const Job& job) {
  const Attempt* attempt = job.Current();
  if (attempt == nullptr || attempt->shares.empty()) return job.spec->resources.workers;
  int workers = 0;
  for (const auto& share : attempt->shares) workers += share.workers;
  return workers;
}

std::vector<std::string> RemoteNodes(const Attempt& attempt) {
  std::vector<std::string> nodes;
  for (const auto& share : attempt.shares)
    if (share.node != kLocalNode) nodes.push_back(share.node);
  return nodes;
}

std::string DescribeShares(const std::vector<NodeShare>& shares) {
  const auto gpus = [](const NodeShare& share) {
    return fmt::format("GPU{} {}", share.gpus.size() > 1 ? "s" : "", fmt::join(share.gpus, ","));
  };
  if (shares.size() == 1 && shares[0].node == kLocalNode) {
    const std::string and_gpus = shares[0].gpus.empty() ? "" : " and " + gpus(shares[0]);
    if (shares[0].cores.empty()) return "on the whole node, more ranks than cores" + and_gpus;
    return fmt::format("on {} core(s){}", shares[0].cores.size(), and_gpus);
  }
  std::string text;
  for (const auto& share : shares) {
    text += fmt::format("{} {} on {}", text.empty() ? "with" : ",", share.workers, share.node);
    if (!share.gpus.empty()) text += fmt::format(" ({})", gpus(share));
  }
  return text + " (workers a node)";
}

std::vector<SilentHost> SilentHosts(const Job& job, int64_t now_ms, const MachineLimits& limits) {
  std::vector<SilentHost> hosts;
  ForRemoteShares(job, [&](const NodeShare& share, size_t first) {
    bool one_at_its_limit = false, all_half_way = true;
    for (size_t i = first; i < first + static_cast<size_t>(share.workers); ++i) {
      const int64_t silent_ms = now_ms - job.workers[i].heard_ms;
      const int64_t limit_ms = SilenceLimitMs(job, job.workers[i], limits);
      one_at_its_limit = one_at_its_limit || silent_ms >= limit_ms;
      all_half_way = all_half_way && silent_ms >= limit_ms / 2;
    }
    if (one_at_its_limit && all_half_way) hosts.push_back(MakeSilentHost(job, share, first, now_ms));
  });
  return hosts;
}

std::vector<SilentHost> HostsLeftBehind(const Job& job, int64_t now_ms, int64_t gap_ms) {
  std::vector<SilentHost> hosts;
  int64_t last_heard_ms = 0;
  for (const auto& worker : job.workers)
    if (worker.seen) last_heard_ms = std::max(last_heard_ms, worker.heard_ms);
  ForRemoteShares(job, [&](const NodeShare& share, size_t first) {
    bool all_behind = true;
    for (size_t i = first; i < first + static_cast<size_t>(share.workers); ++i)
      all_behind = all_behind && job.workers[i].heard_ms + gap_ms <= last_heard_ms;
    if (all_behind) hosts.push_back(MakeSilentHost(job, share, first, now_ms));
  });
  return hosts;
}

std::string RankList(const std::vector<int>& ranks) { return fmt::format("{}", fmt::join(ranks, ",")); }

std::string Describe(const SilentHost& host) {
  const std::string who = fmt::format("host {}: rank{} {}", host.node, host.ranks.size() > 1 ? "s" : "", RankList(host.ranks));
  const double silent_s = static_cast<double>(host.silent_ms) / 1000.0;
  if (!host.longest->seen) return fmt::format("{} not heard within {:.1f} s of the start", who, silent_s);
  return fmt::format("{} silent for {:.1f} s at step {} in phase {}", who, silent_s, host.longest->step, host.longest->phase);
}

}  // namespace plateau
