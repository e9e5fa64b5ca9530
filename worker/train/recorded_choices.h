// Which algorithm runs what on a device: asked of the checkpoint, then of a file of this machine, then of a clock.
#pragma once

#include <map>
#include <string>

#include "common/error.h"
#include "common/file.h"
#include "worker/nn/algorithm_choices.h"

namespace plateau {

// By AlgorithmChoices' keys, which name device kind and library version: what does not fit is not asked for.
using ChoiceTable = std::map<std::string, std::string>;

// Rank 0 chooses; the others adopt its table before they compile, so that all ranks and every resume run the same algorithms.
class RecordedChoices final : public AlgorithmChoices {
 public:
  // `recorded`: of the checkpoint that the run goes on from; `cached`: of the machine's file.
  RecordedChoices(ChoiceTable recorded, ChoiceTable cached) : all_(std::move(recorded)), cached_(std::move(cached)) {}

  std::string Choose(const std::string& key, const std::function<std::string()>& time) override;
  // From now on what is not in rank 0's table is a Failure (kInternal), and nothing is timed.
  void Adopt(ChoiceTable of_rank_zero);
  // For the next checkpoint: what was recorded, whether or not this device asked for it, and what was chosen since.
  const ChoiceTable& all() const { return all_; }
  // For the file: what was timed here.
  const ChoiceTable& timed() const { return timed_; }

 private:
  ChoiceTable all_, cached_, timed_;
  bool adopted_ = false;
};

// {"key": "choice", ...}; the error names `where`.
std::string EncodeChoices(const ChoiceTable& table);
Result<ChoiceTable> DecodeChoices(const std::string& text, const std::string& where);

// The choices that the checkpoint at `resume` ("auto", "none" or a folder) of a run recorded; empty when there is none or it cannot be
// read: what is wrong with it, the resume itself will say. Reads state.json only.
ChoiceTable ReadRecordedChoices(FileSystem& files, const std::string& run_folder, const std::string& resume);

// $XDG_CACHE_HOME/plateau/algorithms.json, or ~/.cache/plateau/algorithms.json; "" when neither variable is set.
std::string ChoicesCachePath();
// {"version": 1, "choices": {...}}. Empty when there is no file; a damaged one is ignored with a warning, and replaced by the next write.
ChoiceTable ReadChoicesCache(FileSystem& files, const std::string& path);
// Adds to the file, atomically; of two writers at once one may lose what it added, which is timed again some day.
Status AddToChoicesCache(FileSystem& files, const std::string& path, const ChoiceTable& timed);

}  // namespace plateau
