// The end of an ingest: what was rejected, whether it was too much, and the manifest. Shared by the local ingest and the
// coordinator's.
#pragma once

#include <string>
#include <vector>

#include "common/clock.h"
#include "common/error.h"
#include "common/file.h"
#include "dataset/ingest_plan.h"
#include "dataset/manifest.h"

namespace plateau {

// Borrows the plan's sources. RejectLog holds a mutex: it is made in place.
RejectLog MakeRejectLog(const IngestPlan& plan, RejectLimit limit);

// out/rejected.jsonl
Status WriteRejected(FileSystem& files, const RejectLog& rejects, const std::string& out);

// Writes rejected.jsonl and, last and atomically, manifest.json. `results` is by task of the plan; every shard is in its place.
// kInvalidInput: more bad images than allowed, nothing was published.
Result<Manifest> FinishIngest(FileSystem& files, const Clock& clock, const DataSource& source, const IngestPlan& plan,
                              const IngestOptions& options, const std::vector<ShardResult>& results, const RejectLog& rejects);

}  // namespace plateau
