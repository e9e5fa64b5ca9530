// Choices of algorithms outside the process: in checkpoints, in the machine's file, and on their way to other ranks.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/error.h"
#include "common/file.h"
#include "worker/nn/recorded_choices.h"
#include "worker/train/state.h"

namespace plateau {

// {"key": "choice", ...}; the error names `where`.
std::string EncodeChoices(const ChoiceTable& table);
Result<ChoiceTable> DecodeChoices(const std::string& text, const std::string& where);

// What the checkpoint at `resume` ("auto", "none" or a folder) of a run was made with, and its step; nothing when there is none or
// it cannot be read: what is wrong with it, the resume itself will say. Reads state.json only.
std::optional<CheckpointState> ReadRecorded(FileSystem& files, const std::string& run_folder, const std::string& resume);

// $XDG_CACHE_HOME/plateau/algorithms.json, or ~/.cache/plateau/algorithms.json; "" when neither variable is set.
std::string ChoicesCachePath();
// {"version": 1, "choices": {...}}. Empty when there is no file; a damaged one is ignored with a warning, and replaced by the next write.
ChoiceTable ReadChoicesCache(FileSystem& files, const std::string& path);
// Adds to the file, atomically, in place of what stands under the same keys; of two writers at once one may lose what it added, which
// is timed again some day.
Status AddToChoicesCache(FileSystem& files, const std::string& path, const ChoiceTable& timed);

// The record of an engine on a device: `recorded`, then the machine's file, which rank 0 alone reads.
std::unique_ptr<RecordedChoices> OpenChoices(FileSystem& files, int rank, ChoiceTable recorded, RecordedChoices::Use use);
// Adds what was timed to the machine's file; a warning says when it cannot be written.
void KeepTimedChoices(FileSystem& files, const RecordedChoices& choices);

}  // namespace plateau
