// The work of an ingest worker: ask for a shard, build it in the lease's folder, report it, and again.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "common/file.h"
#include "dataset/ingest_order.h"
#include "worker/ingest/channel.h"
#include "worker/ingest/lease_keeper.h"

namespace plateau {

// Sources that were opened for the ingests this process serves, with their plans. Thread-safe.
class OpenedSources {
 public:
  struct Opened {
    IngestOrder order;
    DataSource source;
    IngestPlan plan;
    std::string plan_checksum;
  };
  // Opens the source of the task's order once. The error says what differs when the source here is not the one that was planned.
  Result<std::shared_ptr<const Opened>> Find(const TaskGranted& task);

 private:
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const Opened>> opened_;  // by ingest
};

struct BuilderTotals {
  std::atomic<uint64_t> shards{0}, images{0}, lost{0}, failed{0};  // lost: leases that were over before the shard was taken
};

// One thread's loop. Returns when there is nothing left to build, or `stop` is raised (the shard under way is given back). An
// error: the coordinator refuses the worker or does not answer.
Status BuildShards(FileSystem& files, IngestChannel& channel, LeaseKeeper& keeper, OpenedSources& sources, const StopSignal& stop,
                   const std::string& worker, bool stay, BuilderTotals& totals);

}  // namespace plateau
