// Finds the field that a message begins with, and who gave it.
#include "common/spec_source.h"

#include <algorithm>
#include <string_view>

namespace plateau {
namespace {

constexpr std::string_view kUnknown = "unknown field \"";
constexpr std::string_view kFieldLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
// Messages of other parts begin with words of their own; only those of a section's field are the specification's.
constexpr std::string_view kSections[] = {"model.",     "data.",       "training.", "lr.",    "validation.",
                                          "resources.", "checkpoint.", "evaluate.", "fault.", "reproducibility."};

// "training.momentum" of "training.momentum: 7 is ..." and of "unknown field \"training.momentum\"...".
std::string_view FieldOf(std::string_view text) {
  const bool unknown = text.starts_with(kUnknown);
  if (unknown) text.remove_prefix(kUnknown.size());
  const size_t end = text.find_first_not_of(kFieldLetters);
  if (end == std::string_view::npos || end == 0) return {};
  return text[end] == (unknown ? '"' : ':') ? text.substr(0, end) : std::string_view();
}

// The last --set that gave `field`, or a section around it.
const std::pair<std::string, std::string>* SettingOf(const SpecSource& source, std::string_view field) {
  const auto said = std::find_if(source.settings.rbegin(), source.settings.rend(), [&](const auto& setting) {
    return field == setting.first || field.starts_with(setting.first + ".");
  });
  return field.empty() || said == source.settings.rend() ? nullptr : &*said;
}

// "rank 2: " of what a rank above 0 has refused.
std::string_view RankOf(std::string_view text) {
  constexpr std::string_view kRank = "rank ", kDigits = "0123456789";
  if (!text.starts_with(kRank)) return {};
  const size_t end = text.find_first_not_of(kDigits, kRank.size());
  if (end == std::string_view::npos || end == kRank.size() || !text.substr(end).starts_with(": ")) return {};
  return text.substr(0, end + 2);
}

bool OfASection(std::string_view field) {
  return std::any_of(std::begin(kSections), std::end(kSections),
                     [&](std::string_view section) { return field.starts_with(section); });
}

}  // namespace

Error Located(Error error, const SpecSource& source, const std::string& where) {
  if (const std::string rank(RankOf(error.message)); !rank.empty()) {
    const Error located = Located({error.code, error.message.substr(rank.size())}, source, where);
    return {error.code, rank + located.message};
  }
  std::string_view rest = error.message;
  const std::string front = where + ": ";
  const bool parsed = !where.empty() && rest.starts_with(front);
  if (parsed) rest.remove_prefix(front.size());
  const std::string field(FieldOf(rest));
  if (!parsed && !OfASection(field)) return error;
  const auto* said = SettingOf(source, field);
  if (said != nullptr && said->first == field && !rest.starts_with(kUnknown)) rest.remove_prefix(field.size() + 2);
  if (said == nullptr && field.starts_with("jobs.")) {  // of a pipeline: "jobs.b-256: lr.initial: ...", set there or for all jobs
    const std::string inner(FieldOf(rest.substr(std::min(field.size() + 2, rest.size()))));
    said = SettingOf(source, field + "." + inner);
    if (said == nullptr) said = SettingOf(source, inner);
  }
  if (said == nullptr) return {error.code, fmt::format("{}: {}", source.path, rest)};
  return {error.code, fmt::format("--set {}={}: {}", said->first, said->second, rest)};
}

}  // namespace plateau
