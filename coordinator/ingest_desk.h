// Runs the disk work of one ingest in a thread of its own, in order, so that a slow disk stops neither leases nor other ingests.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <variant>

#include "coordinator/ingest/store_works.h"

namespace plateau {

class IngestDesk {
 public:
  struct Reopen {
    std::string plan_checksum;
    bool finishing = false;
  };
  struct Finish {
    bool overflow = false;
    int64_t overflow_lease = 0;
  };
  using Work = std::variant<PlanStore, Reopen, PlaceShard, DropLease, Finish, CloseStore>;

  // `result` is called from the desk's thread with what became of the work; `closed` after CloseStore, as its last act.
  IngestDesk(FileSystem& files, const Clock& clock, const Dataset& dataset, std::function<void(DatasetEvent)> result,
             std::function<void()> closed);
  ~IngestDesk();  // finishes the work under way, drops the rest (it is repeated after the next start)

  // Never blocks. At most one piece of work a lease is under way, so that the queue stays short.
  void Post(Work work);

 private:
  void Run();
  void Serve(const PlanStore&);
  void Serve(const Reopen& reopen);
  void Serve(const PlaceShard& place);
  void Serve(const DropLease& drop);
  void Serve(const Finish& finish);
  void Serve(const CloseStore&);

  std::atomic<bool> leaving_ = false;
  StoreWorks works_;
  std::function<void(DatasetEvent)> result_;
  std::function<void()> closed_;
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<Work> queue_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace plateau
