// The paper's claims against what was measured: each a paired comparison on the same images, with a confidence interval. Pure.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/report/posteriors.h"

namespace plateau {

// A mean difference over images with its 95% interval, in percentage points of top-1 accuracy; positive: the second is better.
// The interval is the adjusted Wald interval of A. Agresti and Y. Min, "Simple improved confidence intervals for comparing matched
// proportions", Statistics in Medicine 24 (2005): half an image is added to each of the four cells (both right, both wrong, either alone
// right) and the normal approximation taken of those n + 2 images, so that a few images, or none, that differ do not look certain.
struct PairedDifference {
  double points = 0, low = 0, high = 0;  // points: as observed
  int64_t images = 0;
  double sign_p = 1;  // two-sided exact sign test over the images that differ; for one comparison McNemar's exact test
};

struct Comparison {
  std::string first, second;  // "A, S = 256, Q = 256"
  PairedDifference difference;
  int64_t only_first = 0, only_second = 0;  // images that one of them alone got right
};

enum class Verdict { kHolds, kDoesNotHold, kUndecided };
const char* VerdictName(Verdict verdict);  // "holds", "does not hold", "undecided"

// What a claim says of one thing: "both against multi-crop".
struct ClaimPart {
  std::string label;
  Verdict verdict = Verdict::kUndecided;
  std::vector<Comparison> comparisons;       // those that could be made, one a net
  std::optional<PairedDifference> together;  // each image's mean over the comparisons; none: there was nothing to compare
};

// A claim holds when all of its parts do, and does not when one of them does not: a combination has to beat each of what it combines.
struct ClaimVerdict {
  std::string claim;  // "depth helps"
  std::string rule;   // how a part's verdict follows from its interval
  Verdict verdict = Verdict::kUndecided;
  std::vector<ClaimPart> parts;
  std::string missing;  // which comparisons could not be made, and why; empty: none
};

// A difference from 0 is told only when the sign test rejects at this level as well.
inline constexpr double kSignLevel = 0.05;

// A claim of no improvement holds when the whole interval lies below this many points.
inline constexpr double kNoImprovementMargin = 0.5;

// Who was right in the row `key` of table `table`; null when it was not measured, or its posteriors are not there.
using CorrectnessOf = std::function<const Correctness*(int table, const std::vector<std::string>& key)>;

// Over the images of both; nothing when they are not the same images.
std::optional<Comparison> Compare(const Correctness& first, const Correctness& second);
// Depth helps; local response normalisation does not; scale jitter helps; dense and multi-crop testing complement each other; fusion helps.
std::vector<ClaimVerdict> JudgeClaims(const CorrectnessOf& find);

}  // namespace plateau
