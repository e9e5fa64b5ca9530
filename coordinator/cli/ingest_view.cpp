// Reading and drawing ingests.
#include "coordinator/cli/ingest_view.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/text.h"
#include "coordinator/cli/job_view.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kShownLeases = 16;

// A field of the kind that `out` is; null and missing ones leave it alone.
template <typename T>
void Read(const Json& json, const char* field, T& out) {
  const auto found = json.find(field);
  if (found != json.end() && !found->is_null()) out = found->get<T>();
}
void Read(const Json& json, const char* field, std::optional<double>& out) {
  const auto found = json.find(field);
  if (found != json.end() && found->is_number()) out = found->get<double>();
}

LeaseRow ReadLease(const Json& json) {
  LeaseRow row;
  Read(json, "lease", row.lease);
  Read(json, "shard", row.shard);
  Read(json, "state", row.state);
  Read(json, "host", row.host);
  Read(json, "pid", row.pid);
  Read(json, "images", row.images);
  Read(json, "of", row.of);
  Read(json, "heard_age_s", row.heard_age_s);
  return row;
}

IngestWorkerRow ReadWorker(const Json& json) {
  IngestWorkerRow row;
  Read(json, "slot", row.slot);
  Read(json, "attempt", row.attempt);
  Read(json, "alive", row.alive);
  Read(json, "restarts", row.restarts);
  Read(json, "last_exit", row.last_exit);
  return row;
}

IngestSplitRow ReadSplit(const std::string& name, const Json& json) {
  IngestSplitRow row;
  row.name = name;
  Read(json, "sources", row.sources);
  Read(json, "shards", row.shards);
  Read(json, "committed", row.committed);
  Read(json, "records", row.records);
  Read(json, "rejected", row.rejected);
  Read(json, "checksum", row.checksum);
  return row;
}

double Share(const IngestView& ingest) {
  return ingest.images > 0 ? static_cast<double>(ingest.handled) / static_cast<double>(ingest.images) : 0;
}

}  // namespace

bool IngestView::Ended() const { return state == "COMPLETED" || state == "FAILED" || state == "CANCELLED"; }

int IngestView::ExitCode() const {
  if (state == "COMPLETED") return 0;
  return reason == "TOO_MANY_REJECTED" || reason == "BAD_INPUT" ? 2 : 1;
}

IngestView ReadIngestView(const Json& json) {
  IngestView ingest;
  Read(json, "id", ingest.id);
  Read(json, "state", ingest.state);
  Read(json, "reason", ingest.reason);
  Read(json, "message", ingest.message);
  Read(json, "out", ingest.out);
  Read(json, "created", ingest.created);
  Read(json, "images", ingest.images);
  Read(json, "handled", ingest.handled);
  Read(json, "rejected", ingest.rejected);
  Read(json, "converted", ingest.converted);
  Read(json, "shards", ingest.shards);
  Read(json, "committed", ingest.committed);
  Read(json, "reused", ingest.reused);
  Read(json, "images_per_s", ingest.images_per_s);
  Read(json, "eta_s", ingest.eta_s);
  Read(json, "seconds", ingest.seconds);
  for (const auto& lease : json.value("leases", Json::array())) ingest.leases.push_back(ReadLease(lease));
  for (const auto& worker : json.value("workers", Json::array())) ingest.workers.push_back(ReadWorker(worker));
  const Json splits = json.value("splits", Json::object());
  for (const auto& [name, split] : splits.items()) ingest.splits.push_back(ReadSplit(name, split));
  return ingest;
}

std::string RenderIngestProgress(const Style& style, const IngestView& ingest, int columns) {
  std::string tail =
      fmt::format(" {}/{} images", Grouped(static_cast<int64_t>(ingest.handled)), Grouped(static_cast<int64_t>(ingest.images)));
  if (ingest.images_per_s) tail += fmt::format("  {} images/s", Grouped(static_cast<int64_t>(*ingest.images_per_s)));
  if (ingest.eta_s) tail += "  ETA " + HumanDuration(*ingest.eta_s);
  tail += fmt::format("  shards {}/{}  {} rejected", ingest.committed, ingest.shards, ingest.rejected);
  const int room = std::clamp(columns - static_cast<int>(tail.size()) - 12, 0, 30);
  return fmt::format("{:3.0f}% {}{}", Share(ingest) * 100, room >= 5 ? Bar(style, Share(ingest), room) : "", tail);
}

std::vector<std::string> RenderIngestLive(const Style& style, const IngestView& ingest) {
  std::vector<std::string> lines{fmt::format("{}  {}  into {}", style.Paint(Colour::kBold, ingest.id),
                                             style.Paint(StateColour(ingest.state), ingest.state), ingest.out)};
  if (ingest.state != "RUNNING") lines.push_back("  " + ingest.message);
  if (ingest.images > 0) lines.push_back(RenderIngestProgress(style, ingest, style.columns));
  for (const auto& worker : ingest.workers)
    lines.push_back(
        fmt::format("  worker {}  {}{}", worker.slot, worker.alive ? "runs" : style.Paint(Colour::kYellow, "is away"),
                    worker.restarts > 0 ? fmt::format(", restarted {} times; last: {}", worker.restarts, worker.last_exit) : ""));
  for (size_t i = 0; i < std::min(kShownLeases, ingest.leases.size()); ++i) {
    const LeaseRow& lease = ingest.leases[i];
    lines.push_back(fmt::format("  lease {:<5} {}  {:>6}/{:<6} {}  pid {} on {}  heard {:.1f} s ago", lease.lease, lease.shard,
                                lease.images, lease.of, lease.state, lease.pid, lease.host, lease.heard_age_s));
  }
  if (ingest.leases.size() > kShownLeases)
    lines.push_back(fmt::format("  and {} more leases", ingest.leases.size() - kShownLeases));
  for (auto& line : lines) line = CutVisible(line, static_cast<size_t>(style.columns));
  return lines;
}

std::string RenderIngestEnd(const Style& style, const IngestView& ingest) {
  std::string text =
      fmt::format("{} is {}{}{}\n", ingest.id, style.Paint(StateColour(ingest.state), ingest.state),
                  ingest.reason.empty() ? "" : ": " + ingest.reason, ingest.message.empty() ? "" : " - " + ingest.message);
  if (ingest.state != "COMPLETED") return text;
  for (const auto& split : ingest.splits)
    text += fmt::format("  {:<6} {} records, {} rejected, {} shards, checksum {}\n", split.name, split.records, split.rejected,
                        split.shards, split.checksum);
  const double seconds = ingest.seconds.value_or(0);
  text += fmt::format("  {} images in {}", ingest.images, HumanDuration(seconds));
  if (seconds > 0 && ingest.reused == 0) text += fmt::format(", {:.0f} images/s", static_cast<double>(ingest.images) / seconds);
  if (ingest.converted > 0) text += fmt::format(", {} converted", ingest.converted);
  if (ingest.reused > 0) text += fmt::format(", {} shards were finished before", ingest.reused);
  text += fmt::format("\n  store {}\n", ingest.out);
  if (ingest.rejected > 0) text += fmt::format("  rejected images and their reasons: {}/rejected.jsonl\n", ingest.out);
  return text;
}

std::string RenderIngests(const Style& style, const std::vector<IngestView>& ingests) {
  if (ingests.empty()) return "no ingests; order one with `plateau dataset ingest --coordinator ...`\n";
  Table table({"INGEST", "STATE", "IMAGES", "SHARDS", "REJECTED", "OUT"});
  table.RightAlign({2, 3, 4});
  for (const auto& ingest : ingests)
    table.Add({ingest.id, style.Paint(StateColour(ingest.state), ingest.state), fmt::format("{}/{}", ingest.handled, ingest.images),
               fmt::format("{}/{}", ingest.committed, ingest.shards), std::to_string(ingest.rejected), ingest.out});
  return table.Render(style);
}

}  // namespace plateau
