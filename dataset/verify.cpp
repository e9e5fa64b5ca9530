// Reads a whole store and reports damage by shard, file and record.
#include "dataset/verify.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>

#include "common/checksum.h"
#include "common/progress.h"
#include "dataset/file_digest.h"
#include "dataset/record.h"
#include "dataset/shard_check.h"
#include "dataset/store_layout.h"
#include "dataset/task_pool.h"

namespace plateau {
namespace {

// What checking one shard gives.
struct ShardReport {
  std::vector<StoreProblem> problems;
  uint64_t files = 0, bytes = 0, records = 0;
};

// One split being checked; shards write to their own places only.
struct SplitCheck {
  const SplitInfo* info;
  StoreLayout layout;
  std::vector<uint64_t> record_checksums;  // [source ordinal]
  std::vector<ShardReport> shards;
};

bool IsRejected(const SplitInfo& split, uint64_t ordinal) {
  return std::binary_search(split.rejected.begin(), split.rejected.end(), ordinal);
}

std::vector<uint64_t> ExpectedSlots(const SplitCheck& split, uint64_t shard) {
  std::vector<uint64_t> slots;
  for (uint64_t slot = 0; slot < split.layout.Slots(shard); ++slot)
    if (!IsRejected(*split.info, split.layout.SourceOrdinalAt({shard, slot}))) slots.push_back(slot);
  return slots;
}

// Compares each file with its digest; one problem a file.
void CheckFiles(FileSystem& files, const std::string& folder, const ShardInfo& shard, ShardReport& report,
                const std::function<void(uint64_t)>& read) {
  for (const auto& file : shard.files) {
    const auto digest = DigestFile(folder + "/" + file.name);
    if (!digest) {
      const bool missing = digest.error().code == ErrorCode::kNotFound;
      report.problems.push_back({shard.folder, file.name, missing ? "the file is missing" : digest.error().message, {}});
      continue;
    }
    ++report.files;
    report.bytes += digest->bytes;
    read(digest->bytes);
    if (digest->bytes != file.bytes)
      report.problems.push_back(
          {shard.folder, file.name, fmt::format("has {} bytes, the manifest says {}", digest->bytes, file.bytes), {}});
    else if (digest->digest != file.digest)
      report.problems.push_back({shard.folder,
                                 file.name,
                                 fmt::format("its content changed: digest {}, the manifest says {}", digest->digest, file.digest),
                                 {}});
  }
  const auto names = files.List(folder);
  if (!names) return;  // then every file was missing
  for (const auto& name : *names)
    if (std::none_of(shard.files.begin(), shard.files.end(), [&](const ShardFileInfo& file) { return file.name == name; }))
      report.problems.push_back({shard.folder, name, "is not part of the store; remove it", {}});
}

// Reads every record of a shard whose files are intact.
Status CheckRecords(const std::string& folder, SplitCheck& split, uint64_t number, size_t classes, ShardReport& report) {
  const ShardInfo& shard = split.info->shards[number];
  ChecksumStream checksum;
  const auto status = WalkShard(folder, [&](uint64_t slot, std::string_view value) -> Status {
    if (slot >= split.layout.Slots(number))
      return Fail(ErrorCode::kCorrupt, "key {} is beyond the shard's {}", slot, split.layout.Slots(number));
    const uint64_t ordinal = split.layout.SourceOrdinalAt({number, slot});
    const auto record = DecodeRecord(value);
    if (!record) return Fail(record.error().code, "key {}: {}", slot, record.error().message);
    if (record->header.source_ordinal != ordinal || IsRejected(*split.info, ordinal))
      return Fail(ErrorCode::kCorrupt, "key {} holds source ordinal {}, not {}", slot, record->header.source_ordinal, ordinal);
    if (record->header.label < 0 || static_cast<size_t>(record->header.label) >= classes)
      return Fail(ErrorCode::kCorrupt, "key {} has label {} of {} classes", slot, record->header.label, classes);
    const std::string key = RecordKey(slot);
    checksum.Add(key.data(), key.size());
    checksum.Add(value.data(), value.size());
    split.record_checksums[ordinal] = Checksum(value);
    ++report.records;
    return {};
  });
  PLATEAU_TRY(status);
  if (report.records != shard.records)
    return Fail(ErrorCode::kCorrupt, "holds {} records, the manifest says {}", report.records, shard.records);
  if (const auto text = ChecksumText(checksum.Value()); text != shard.checksum)
    return Fail(ErrorCode::kCorrupt, "content checksum is {}, the manifest says {}", text, shard.checksum);
  return {};
}

// Adds the damaged records of a shard to the problems of its files.
void AddDamage(FileSystem& files, const std::string& folder, const SplitCheck& split, uint64_t number, ShardReport& report) {
  const ShardInfo& shard = split.info->shards[number];
  const auto expected = ExpectedSlots(split, number);
  std::vector<uint64_t> missing;
  const auto damages = FindDamage(folder, shard.files, expected, missing);
  report.records = expected.size() - missing.size();
  const auto add = [&](StoreProblem& problem, const std::vector<uint64_t>& slots) {
    std::map<uint64_t, std::string> names;
    for (const uint64_t slot : slots) names.emplace(split.layout.SourceOrdinalAt({number, slot}), "");
    if (!problem.file.empty())
      if (const auto bytes = files.Read(folder + "/" + problem.file)) SalvageNames(*bytes, names);
    for (const uint64_t slot : slots) {
      const uint64_t ordinal = split.layout.SourceOrdinalAt({number, slot});
      problem.records.push_back({slot, ordinal, names[ordinal]});
    }
  };
  for (auto& problem : report.problems) {
    const auto damage = std::find_if(damages.begin(), damages.end(), [&](const FileDamage& d) { return d.file == problem.file; });
    if (damage == damages.end()) {
      const bool listed =
          std::any_of(shard.files.begin(), shard.files.end(), [&](const ShardFileInfo& f) { return f.name == problem.file; });
      if (problem.file.ends_with(".sst"))
        problem.what += listed ? "; outside the data: all its records can be read" : "";
      else if (listed)
        problem.what += "; RocksDB's own list of files: the records are whole, but the shard may not open";
      continue;
    }
    report.records -= damage->slots.size();
    problem.what +=
        fmt::format("; {}: {} records cannot be read ({})", damage->whole ? "its footer, index or metadata" : "in a data block",
                    damage->slots.size(), damage->what);
    add(problem, damage->slots);
  }
  if (missing.empty()) return;
  StoreProblem problem{shard.folder, "", fmt::format("{} records are in none of its files", missing.size()), {}};
  add(problem, missing);
  report.problems.push_back(std::move(problem));
}

// Names that do not belong into the store's folder or a split's.
void FindStrangers(FileSystem& files, const std::string& store, const Manifest& manifest, std::vector<StoreProblem>& problems) {
  const auto strangers = [&](const std::string& folder, const std::vector<std::string>& known) {
    const auto names = files.List(folder.empty() ? store : store + "/" + folder);
    if (!names) return;
    for (const auto& name : *names) {
      if (std::find(known.begin(), known.end(), name) != known.end()) continue;
      const std::string path = folder.empty() ? name : folder + "/" + name;
      const bool left_over = path == "ingest";
      problems.push_back({"",
                          path,
                          left_over ? "is left over from an ingest that was ended while tidying up; remove it"
                                    : "is not part of the store; remove it",
                          {}});
    }
  };
  std::vector<std::string> top{"manifest.json", "rejected.jsonl"};
  for (const auto& split : manifest.splits) top.push_back(split.name);
  strangers("", top);
  for (const auto& split : manifest.splits) {
    std::vector<std::string> shards;
    for (const auto& shard : split.shards) shards.push_back(shard.folder.substr(shard.folder.rfind('/') + 1));
    strangers(split.name, shards);
  }
  if (!files.Exists(store + "/rejected.jsonl")) problems.push_back({"", "rejected.jsonl", "the file is missing", {}});
}

// Folds the record checksums of a split without other problems and compares with the manifest.
void CheckSplitChecksum(const SplitCheck& split, std::vector<StoreProblem>& problems) {
  for (const auto& shard : split.shards)
    if (!shard.problems.empty()) return;
  ChecksumStream stream;
  for (uint64_t ordinal = 0; ordinal < split.info->sources; ++ordinal)
    if (!IsRejected(*split.info, ordinal)) stream.Add(&split.record_checksums[ordinal], sizeof(uint64_t));
  if (const auto text = ChecksumText(stream.Value()); text != split.info->checksum)
    problems.push_back(
        {split.info->name, "", fmt::format("content checksum is {}, the manifest says {}", text, split.info->checksum), {}});
}

}  // namespace

Result<VerifyReport> VerifyStore(FileSystem& files, const Clock& clock, const std::string& store, int jobs, bool quiet) {
  const int64_t started_ms = clock.MonotonicMs();
  PLATEAU_ASSIGN(const Manifest manifest, LoadManifest(files, store));
  std::vector<SplitCheck> splits;
  std::vector<std::pair<size_t, uint64_t>> tasks;  // (split, shard)
  uint64_t total = 0;
  for (const auto& split : manifest.splits) {
    for (uint64_t shard = 0; shard < split.shards.size(); ++shard) {
      tasks.emplace_back(splits.size(), shard);
      for (const auto& file : split.shards[shard].files) total += file.bytes;
    }
    splits.push_back({&split, StoreLayout(manifest.store_seed, splits.size(), split.sources, split.shards.size()),
                      std::vector<uint64_t>(split.sources), std::vector<ShardReport>(split.shards.size())});
  }
  Progress progress({.label = "verify " + manifest.name, .unit = "bytes", .total = total, .quiet = quiet}, clock);
  std::atomic<uint64_t> done{0};
  PLATEAU_TRY(RunTasks(tasks.size(), jobs, [&](uint64_t number) -> Status {
    auto& split = splits[tasks[number].first];
    const uint64_t shard = tasks[number].second;
    auto& report = split.shards[shard];
    const std::string folder = store + "/" + split.info->shards[shard].folder;
    CheckFiles(files, folder, split.info->shards[shard], report, [&](uint64_t bytes) { progress.Update(done += bytes); });
    if (report.problems.empty()) {
      if (auto status = CheckRecords(folder, split, shard, manifest.classes.size(), report); !status)
        report.problems.push_back({split.info->shards[shard].folder, "", status.error().message, {}});
    } else {
      AddDamage(files, folder, split, shard, report);
    }
    return {};
  }));
  progress.Finish(done);
  VerifyReport report;
  FindStrangers(files, store, manifest, report.problems);
  for (const auto& split : splits) {
    for (const auto& shard : split.shards) {
      ++report.shards;
      report.files += shard.files;
      report.records += shard.records;
      report.bytes += shard.bytes;
      report.problems.insert(report.problems.end(), shard.problems.begin(), shard.problems.end());
    }
    CheckSplitChecksum(split, report.problems);
  }
  report.seconds = static_cast<double>(clock.MonotonicMs() - started_ms) / 1000;
  return report;
}

}  // namespace plateau
