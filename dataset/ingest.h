// From a source of images to a published store: decode check, permuted shards, moments, manifest last.
#pragma once

#include <cstdint>
#include <string>

#include "common/clock.h"
#include "common/error.h"
#include "common/file.h"
#include "dataset/ingest_plan.h"
#include "dataset/manifest.h"
#include "dataset/readers/source.h"

namespace plateau {

struct IngestReport {
  Manifest manifest;
  uint64_t converted = 0;      // images stored in another encoding than they came in
  uint64_t images = 0;         // handled by this run, rejected ones included
  uint64_t reused_shards = 0;  // found finished from a run that was cut off
  double seconds = 0;
};

// Writes a store. While it works `out` holds a folder `ingest` with the plan and the finished shards' records; the manifest is
// written last and atomically, so that a store is whole or absent. Run again after a kill or a failure it goes on from the finished
// shards when source and options are the same, and begins anew otherwise. Blocks until done. Errors: kConflict when `out` is a
// finished store (without `overwrite`), holds foreign files, or is being written by another process; kInvalidInput for more bad
// images than allowed (they are in out/rejected.jsonl); kIo for the disk.
Result<IngestReport> Ingest(FileSystem& files, const Clock& clock, const DataSource& source, const IngestOptions& options);

}  // namespace plateau
