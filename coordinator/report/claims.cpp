// Paired differences and the verdicts that follow from them.
#include "coordinator/report/claims.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/text.h"

namespace plateau {
namespace {

constexpr double kNormal95 = 1.959963984540054;  // the 97.5% quantile of the normal distribution

using Key = std::vector<std::string>;
struct Place {
  int table = 0;
  Key key;
};
struct Part {
  std::string label;
  std::vector<std::pair<Place, Place>> pairs;
};
struct Claim {
  std::string name;
  bool improves = true;  // false: the second is claimed to be no better
  std::vector<Part> parts;
};

std::vector<Claim> Claims() {
  const auto single = [](const char* net, const char* s, const char* q) { return Place{3, {net, s, q}}; };
  const auto testing = [](const char* net, const char* how) { return Place{5, {net, how}}; };
  const Place a = single("A", "256", "256"), fused{6, {"D+E, multi-crop & dense"}};
  Part deeper{"B, D, E against A", {}}, jittered{"S in [256;512] against S = 384", {}};
  for (const char* net : {"B", "D", "E"}) deeper.pairs.emplace_back(a, single(net, "256", "256"));
  for (const char* net : {"C", "D", "E"}) jittered.pairs.emplace_back(single(net, "384", "384"), single(net, "[256;512]", "384"));
  Claim complement{"dense and multi-crop testing complement each other", true, {}}, fusion{"fusion helps", true, {}};
  for (const char* how : {"dense", "multi-crop"}) {
    Part part{fmt::format("both against {} alone", how), {}};
    for (const char* net : {"D", "E"}) part.pairs.emplace_back(testing(net, how), testing(net, "multi-crop & dense"));
    complement.parts.push_back(std::move(part));
  }
  for (const char* net : {"D", "E"}) fusion.parts.push_back({fmt::format("D+E against {}", net), {{testing(net, "multi-crop & dense"), fused}}});
  const Part normalised{"A-LRN against A", {{a, single("A-LRN", "256", "256")}}};
  return {{"depth helps", true, {deeper}},
          {"local response normalisation does not help", false, {normalised}},
          {"scale jitter helps", true, {jittered}},
          complement,
          fusion};
}

std::string Label(const Place& place) {
  if (place.table == 3) return fmt::format("{}, S = {}, Q = {}", place.key[0], place.key[1], place.key[2]);
  return fmt::format("{}", fmt::join(place.key, ", "));
}

// The chance that fair coins, one an image that differs, fall at least this unevenly.
double SignTest(int64_t positive, int64_t negative) {
  const auto n = static_cast<double>(positive + negative);
  double tail = 0;
  for (int64_t i = 0; i <= std::min(positive, negative); ++i) {
    const auto k = static_cast<double>(i);
    tail += std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1) - n * std::numbers::ln2);
  }
  return std::min(1.0, 2 * tail);
}

// Of values in [-1, 1] that are given by image, as shares.
PairedDifference Interval(const std::vector<double>& by_image) {
  PairedDifference out;
  out.images = static_cast<int64_t>(by_image.size());
  double sum = 0, squares = 0;
  int64_t positive = 0, negative = 0;
  for (const double value : by_image) {
    sum += value;
    squares += value * value;
    positive += value > 0 ? 1 : 0;
    negative += value < 0 ? 1 : 0;
  }
  // Half an image of +1, half of -1 and one of 0 are added.
  const double n = static_cast<double>(by_image.size()) + 2, mean = sum / n;
  const double half = kNormal95 * std::sqrt((squares + 1) / n - mean * mean) / std::sqrt(n);
  out.points = 100 * sum / static_cast<double>(by_image.size());
  out.low = 100 * std::max(-1.0, mean - half);
  out.high = 100 * std::min(1.0, mean + half);
  out.sign_p = SignTest(positive, negative);
  return out;
}

Verdict VerdictOf(const Claim& claim, const PairedDifference& d) {
  const bool differs = d.sign_p < kSignLevel;
  if (differs && d.low > 0) return claim.improves ? Verdict::kHolds : Verdict::kDoesNotHold;
  if (claim.improves) return differs && d.high < 0 ? Verdict::kDoesNotHold : Verdict::kUndecided;
  return d.high < kNoImprovementMargin ? Verdict::kHolds : Verdict::kUndecided;
}

bool SameImages(const Correctness& a, const Correctness& b) { return a.ordinals == b.ordinals && a.split_checksum == b.split_checksum; }

ClaimPart JudgePart(const Claim& claim, const Part& part, const CorrectnessOf& find, std::vector<std::string>& missing) {
  ClaimPart out{.label = part.label};
  std::vector<double> together;
  const Correctness* base = nullptr;  // of the first pair that could be compared
  for (const auto& [first, second] : part.pairs) {
    const Correctness* one = find(first.table, first.key);
    const Correctness* other = find(second.table, second.key);
    auto comparison = one != nullptr && other != nullptr ? Compare(*one, *other) : std::nullopt;
    if (!comparison || (base != nullptr && !SameImages(*base, *one))) {
      missing.push_back(fmt::format("{} against {}", Label(second), Label(first)));
      continue;
    }
    comparison->first = Label(first);
    comparison->second = Label(second);
    if (base == nullptr) base = one;
    together.resize(one->top1.size(), 0);
    for (size_t i = 0; i < together.size(); ++i) together[i] += static_cast<double>(other->top1[i]) - static_cast<double>(one->top1[i]);
    out.comparisons.push_back(std::move(*comparison));
  }
  if (out.comparisons.empty()) return out;
  for (double& value : together) value /= static_cast<double>(out.comparisons.size());
  out.together = Interval(together);
  out.verdict = VerdictOf(claim, *out.together);
  return out;
}

ClaimVerdict Judge(const Claim& claim, const CorrectnessOf& find) {
  ClaimVerdict out{.claim = claim.name, .verdict = Verdict::kHolds};
  const std::string tested = fmt::format("with an exact sign test below {:g}", kSignLevel);
  out.rule = claim.improves ? fmt::format("holds when the whole interval lies above 0, does not hold when it lies below, each {}", tested)
                            : fmt::format("holds when the whole interval lies below {:g} points, does not hold when it lies above 0 {}",
                                          kNoImprovementMargin, tested);
  if (claim.parts.size() > 1) out.rule += "; it has to hold for each part";
  std::vector<std::string> missing;
  for (const Part& part : claim.parts) {
    ClaimPart judged = JudgePart(claim, part, find, missing);
    if (judged.verdict == Verdict::kDoesNotHold || (judged.verdict == Verdict::kUndecided && out.verdict == Verdict::kHolds)) out.verdict = judged.verdict;
    out.parts.push_back(std::move(judged));
  }
  if (!missing.empty()) out.missing = "not compared, for lack of posteriors of the same images: " + JoinNames(missing);
  return out;
}

}  // namespace

const char* VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kHolds: return "holds";
    case Verdict::kDoesNotHold: return "does not hold";
    case Verdict::kUndecided: return "undecided";
  }
  return "undecided";
}

std::optional<Comparison> Compare(const Correctness& first, const Correctness& second) {
  if (first.ordinals.empty() || !SameImages(first, second)) return std::nullopt;
  Comparison out;
  std::vector<double> differences;
  for (size_t i = 0; i < first.top1.size(); ++i) {
    const int difference = static_cast<int>(second.top1[i]) - static_cast<int>(first.top1[i]);
    out.only_second += difference > 0 ? 1 : 0;
    out.only_first += difference < 0 ? 1 : 0;
    differences.push_back(difference);
  }
  out.difference = Interval(differences);
  return out;
}

std::vector<ClaimVerdict> JudgeClaims(const CorrectnessOf& find) {
  std::vector<ClaimVerdict> verdicts;
  for (const Claim& claim : Claims()) verdicts.push_back(Judge(claim, find));
  return verdicts;
}

}  // namespace plateau
