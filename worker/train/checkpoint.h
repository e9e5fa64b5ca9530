// Checkpoints on disk: written beside, fsynced and renamed; verified on load. Format: worker/CHECKPOINT.md.
#pragma once

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/file.h"
#include "worker/nn/parameter.h"
#include "worker/train/snapshot.h"
#include "worker/train/state.h"

namespace plateau {

// Written into model.safetensors; nothing that differs between two runs of the same bits.
using ModelMetadata = std::map<std::string, std::string>;
ModelMetadata MakeModelMetadata(const RunIdentity& identity);

// "step-000000123"
std::string CheckpointFolderName(int64_t step);

struct WrittenCheckpoint {
  std::string folder;             // absolute or as given
  uint64_t bytes = 0;             // of all files
  std::string manifest_checksum;  // of manifest.json
};

// Writes <attempt_folder>/step-NNNNNNNNN with model, momentum, state and, last, the manifest. Blocks until it is on the disk. On an
// error (full disk, read-only mount; kNumeric: a weight or momentum is not finite) nothing of it remains and older checkpoints are
// untouched. `progress` counts the parts
// written and the syncs, for a watcher.
Result<WrittenCheckpoint> WriteCheckpoint(FileSystem& files, const std::string& attempt_folder, const ParameterSnapshot& parameters,
                                          const CheckpointState& state, std::atomic<int64_t>* progress = nullptr);

// The manifest goes first, so that half a deletion is no checkpoint. Fine when it is not there.
Status DeleteCheckpoint(FileSystem& files, const std::string& folder);

// Canonical tensors of a loaded checkpoint are kept as the bytes of its files.
struct LoadedCheckpoint {
  std::string folder;
  CheckpointState state;
  std::string model, momentum;  // the safetensors files' bytes
};

// Reads and verifies sizes and checksums of all files, or of all but the momentum, which stays empty then. kCorrupt names the file
// and what differs.
enum class CheckpointParts { kAll, kWithoutMomentum };
Result<LoadedCheckpoint> LoadCheckpoint(FileSystem& files, const std::string& folder, CheckpointParts parts = CheckpointParts::kAll);
// Checksum of manifest.json of a checkpoint, as current.json names it.
Result<std::string> ManifestChecksum(FileSystem& files, const std::string& folder);
// Copies both tensor sets into the store. kInvalidInput when a name or shape does not fit.
Status ApplyCheckpoint(const LoadedCheckpoint& checkpoint, ParameterStore& parameters);

}  // namespace plateau
