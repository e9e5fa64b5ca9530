// Checks a store: every file against its digest, every block and record, and names what is damaged.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/error.h"
#include "common/file.h"
#include "dataset/manifest.h"

namespace plateau {

struct DamagedRecord {
  uint64_t slot = 0;  // the key
  uint64_t source_ordinal = 0;
  std::string name;  // as far as it can still be read; empty otherwise
};

struct StoreProblem {
  std::string shard;                   // "train/00003"; empty for a problem of the store itself
  std::string file;                    // relative to the shard's folder, or to the store; empty when no single file is at fault
  std::string what;                    // one sentence
  std::vector<DamagedRecord> records;  // that cannot be read because of it
};

struct VerifyReport {
  uint64_t shards = 0, files = 0, records = 0, bytes = 0;  // checked: bytes of files, records that were read in full
  std::vector<StoreProblem> problems;                      // in the order of the manifest
  double seconds = 0;
};

// Reads everything, with `jobs` threads; blocks. The error is for a store that cannot be looked at (no manifest, a changed
// manifest); damage further in is in the report.
Result<VerifyReport> VerifyStore(FileSystem& files, const Clock& clock, const std::string& store, int jobs, bool quiet);

}  // namespace plateau
