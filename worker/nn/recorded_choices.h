// Which algorithm runs what on a device: asked of a run's record, then of the machine's, then of a clock.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "worker/nn/algorithm_choices.h"

namespace plateau {

// By AlgorithmChoices' keys, which name device kind and library version: what does not fit is not asked for. Exceptions stand under
// "<key>, <plan>".
using ChoiceTable = std::map<std::string, std::string>;

// Rank 0 chooses, for every plan that any rank compiles; the others adopt its table before they compile, so that all ranks and
// every resume run the same algorithms.
//
// A choice that cannot be built is replaced so that no plan's algorithm changes behind its back, neither in this process nor when a
// resume builds the same plans from the table: where a plan runs it already, or where it only lacks workspace, what is found
// instead is an exception of the plan that cannot use it. Else it is stale and gives way to what is found, for all plans.
//
// A test's batches and image sizes are no training's. What it times stands in the machine's file under names of its own ("<key>,
// test"), which it reads before the file's others and which training never reads; and every choice that it cannot build gets an
// exception.
class RecordedChoices final : public AlgorithmChoices {
 public:
  enum class Use { kTraining, kTest };
  // `recorded`: of the checkpoint that the run goes on from, or that is tested; `cached`: of the machine's file.
  RecordedChoices(ChoiceTable recorded, ChoiceTable cached, Use use = Use::kTraining)
      : use_(use), all_(std::move(recorded)), cached_(std::move(cached)) {}

  std::string Choose(const std::string& key, const std::function<std::string()>& time) override;
  std::optional<std::string> Exception(const std::string& key, const std::string& plan) override;
  std::string Replace(const RefusedChoice& refused, const std::function<std::string()>& time) override;
  // From now on what is not in rank 0's table, or cannot be built from it, is a Failure that names the key and, where there is one,
  // the reason (kInternal, kUnsupported): nothing is timed, for ranks that choose for themselves would compute differently, and
  // differently from run to run.
  void Adopt(ChoiceTable of_rank_zero);
  // For the other ranks and the next checkpoint: what was recorded, whether or not this device asked for it, and what was chosen
  // since.
  const ChoiceTable& all() const { return all_; }
  // For the file, under its names: what was timed here.
  const ChoiceTable& timed() const { return timed_; }

 private:
  // Names of `key` in the machine's file, the one to write first.
  std::vector<std::string> FileNames(const std::string& key) const;
  std::string Keep(const std::string& key, const std::vector<std::string>& file_names, const std::function<std::string()>& time);

  const Use use_;
  ChoiceTable all_, cached_, timed_;
  std::set<std::pair<std::string, std::string>> refused_;  // key or exception, and a choice that it cannot be built from
  std::set<std::string> own_;         // keys of all_ that were not recorded but come from the file or from the clock
  std::map<std::string, int> users_;  // by key: plans that run its choice
  bool adopted_ = false;
};

}  // namespace plateau
