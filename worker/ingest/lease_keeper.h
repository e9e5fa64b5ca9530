// Renews the leases of a process's building threads, from a thread of its own: a slow disk or image never costs a lease.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "worker/ingest/channel.h"

namespace plateau {

// What a building thread and the keeper tell each other about one lease.
struct HeldLease {
  std::string worker;  // the thread's name
  std::string dataset;
  int64_t lease = 0;
  int64_t timeout_ms = 0;
  std::atomic<uint64_t> images{0}, rejected{0};  // written by the building thread
  std::atomic<bool> over{false};                 // the coordinator says that the lease is over: stop building
};

class LeaseKeeper {
 public:
  static Result<std::unique_ptr<LeaseKeeper>> Start(const ChannelOptions& options, const IngestSender& sender,
                                                    const StopSignal& stop);
  ~LeaseKeeper();

  // From now until Release the lease is renewed, about once a second. Thread-safe, as Release.
  std::shared_ptr<HeldLease> Hold(const std::string& worker, const TaskGranted& task);
  void Release(const std::shared_ptr<HeldLease>& lease);

 private:
  explicit LeaseKeeper(std::unique_ptr<IngestChannel> channel) : channel_(std::move(channel)) {}
  void Run();

  std::unique_ptr<IngestChannel> channel_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int64_t, std::shared_ptr<HeldLease>> held_;  // by a number of its own; guarded by mutex_
  int64_t next_ = 0;                                    // guarded by mutex_
  bool ending_ = false;                                 // guarded by mutex_
  std::thread thread_;
};

}  // namespace plateau
