// An ingest as REST shows it, read into plain fields, and how the command line draws it. Pure: no I/O.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "coordinator/cli/terminal.h"

namespace plateau {

struct LeaseRow {
  int64_t lease = 0, pid = 0;
  std::string shard, state, host;
  uint64_t images = 0, of = 0;
  double heard_age_s = 0;
};

struct IngestWorkerRow {
  int slot = 0, attempt = 0, restarts = 0;
  bool alive = false;
  std::string last_exit;
};

struct IngestSplitRow {
  std::string name, checksum;
  uint64_t sources = 0, shards = 0, committed = 0, records = 0, rejected = 0;
};

// Missing and null fields keep their defaults.
struct IngestView {
  std::string id, state, reason, message, out, created;
  uint64_t images = 0, handled = 0, rejected = 0, converted = 0, shards = 0, committed = 0, reused = 0;
  std::optional<double> images_per_s, eta_s, seconds;
  std::vector<IngestSplitRow> splits;
  std::vector<LeaseRow> leases;
  std::vector<IngestWorkerRow> workers;

  bool Ended() const;    // COMPLETED, FAILED, CANCELLED
  int ExitCode() const;  // 0 COMPLETED, 2 FAILED for the source's sake, 1 otherwise
};

IngestView ReadIngestView(const nlohmann::ordered_json& ingest);

// "42% [####....] 4,200/10,000 images  812 images/s  ETA 7s  shards 7/18  3 rejected"
std::string RenderIngestProgress(const Style& style, const IngestView& ingest, int columns);
// The live view of `plateau dataset watch`: progress, leases, workers; one line an element.
std::vector<std::string> RenderIngestLive(const Style& style, const IngestView& ingest);
// What is said when it has ended.
std::string RenderIngestEnd(const Style& style, const IngestView& ingest);
// The table of `plateau dataset list`.
std::string RenderIngests(const Style& style, const std::vector<IngestView>& ingests);

}  // namespace plateau
