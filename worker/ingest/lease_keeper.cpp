// One question a lease and round.
#include "worker/ingest/lease_keeper.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "common/log.h"

namespace plateau {
namespace {

constexpr int64_t kRenewMs = 1'000;  // or a quarter of the lease's time

}  // namespace

Result<std::unique_ptr<LeaseKeeper>> LeaseKeeper::Start(const ChannelOptions& options, const IngestSender& sender,
                                                        const StopSignal& stop) {
  PLATEAU_ASSIGN(auto channel, IngestChannel::Open(options, sender, stop));
  std::unique_ptr<LeaseKeeper> keeper(new LeaseKeeper(std::move(channel)));
  keeper->thread_ = std::thread([self = keeper.get()] { self->Run(); });
  return keeper;
}

LeaseKeeper::~LeaseKeeper() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::shared_ptr<HeldLease> LeaseKeeper::Hold(const std::string& worker, const TaskGranted& task) {
  auto held = std::make_shared<HeldLease>();
  held->worker = worker;
  held->dataset = task.dataset;
  held->lease = task.lease;
  held->timeout_ms = task.timeout_ms;
  {
    const std::lock_guard lock(mutex_);
    held_.emplace(++next_, held);
  }
  changed_.notify_all();
  return held;
}

void LeaseKeeper::Release(const std::shared_ptr<HeldLease>& lease) {
  const std::lock_guard lock(mutex_);
  std::erase_if(held_, [&](const auto& one) { return one.second == lease; });
}

void LeaseKeeper::Run() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    std::vector<std::shared_ptr<HeldLease>> round;
    int64_t wait_ms = kRenewMs;
    for (const auto& [number, held] : held_) {
      if (!held->over) round.push_back(held);
      wait_ms = std::min(wait_ms, std::max<int64_t>(1, held->timeout_ms / 4));
    }
    lock.unlock();
    for (const auto& held : round) {
      const auto reply = channel_->Ask(RenewLease{held->dataset, held->lease, held->images, held->rejected}, held->worker);
      if (!reply) {
        if (reply.error().code == ErrorCode::kInvalidInput) held->over = true;
        continue;  // stopping, or the coordinator is given up: the building thread notices too
      }
      if (std::holds_alternative<LeaseOver>(*reply)) held->over = true;
    }
    lock.lock();
    changed_.wait_for(lock, std::chrono::milliseconds(wait_ms), [this] { return ending_; });
  }
}

}  // namespace plateau
