// Prints examinations for people and programs.
#include "worker/doctor/finding.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/text.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<const char*, 4> kHealth{"info", "good", "note", "bad"};     // by Health
constexpr std::array<const char*, 4> kMarks{"    ", "ok  ", "note", "FAIL"};     // likewise
constexpr std::array<const char*, 4> kColours{"", "\x1b[32m", "\x1b[33m", "\x1b[1;31m"};

std::string Mark(Health health, bool colour) {
  const auto index = static_cast<size_t>(health);
  if (!colour || kColours[index][0] == '\0') return kMarks[index];
  return fmt::format("{}{}\x1b[0m", kColours[index], kMarks[index]);
}

std::string Line(const Finding& finding, size_t width, bool colour) {
  return fmt::format("  {}  {:<{}}  {}\n", Mark(finding.health, colour), finding.name, width, finding.text);
}

// What of a rank is shown beside rank 0's: its device, notes and faults, but for what is the same there.
std::string News(const Examination& rank, const Examination& zero, size_t width, bool colour) {
  std::string text;
  for (const Finding& f : rank.findings) {
    const bool told = rank.host == zero.host && std::any_of(zero.findings.begin(), zero.findings.end(), [&](const Finding& known) {
                        return known.section == f.section && known.name == f.name && known.text == f.text;
                      });
    const bool shown = f.health == Health::kBad || (!told && (f.health == Health::kNote || f.name == "device"));
    if (shown) text += Line(f, width, colour);
  }
  return text;
}

// Ranks of one host that have the same to say.
struct Alike {
  std::string host, news;
  bool good = false;
  std::vector<std::string> ranks;
};

std::vector<Alike> GroupOthers(const std::vector<Examination>& ranks, size_t width, bool colour) {
  std::vector<Alike> groups;
  for (size_t i = 1; i < ranks.size(); ++i) {
    const Examination& rank = ranks[i];
    const std::string news = News(rank, ranks.front(), width, colour);
    auto group = std::find_if(groups.begin(), groups.end(), [&](const Alike& one) {
      return one.host == rank.host && one.good == rank.good() && one.news == news;
    });
    if (group == groups.end()) group = groups.insert(group, {rank.host, news, rank.good(), {}});
    group->ranks.push_back(std::to_string(rank.rank));
  }
  return groups;
}

}  // namespace

bool Examination::good() const {
  return std::none_of(findings.begin(), findings.end(), [](const Finding& f) { return f.health == Health::kBad; });
}

Json ExaminationToJson(const Examination& rank) {
  Json findings = Json::array();
  for (const Finding& f : rank.findings)
    findings.push_back({{"section", f.section}, {"name", f.name}, {"health", kHealth[static_cast<size_t>(f.health)]}, {"text", f.text}});
  return {{"rank", rank.rank}, {"host", rank.host}, {"pid", rank.pid}, {"ok", rank.good()}, {"findings", findings}};
}

Examination ExaminationFromJson(const Json& json) {
  Examination rank{.rank = json.at("rank"), .host = json.at("host"), .pid = json.at("pid")};
  for (const Json& f : json.at("findings")) {
    const auto health = std::find(kHealth.begin(), kHealth.end(), f.at("health").get<std::string>());
    rank.findings.push_back({f.at("section"), f.at("name"), static_cast<Health>(health - kHealth.begin()), f.at("text")});
  }
  return rank;
}

Json ExaminationsToJson(const std::vector<Examination>& ranks) {
  Json list = Json::array();
  for (const Examination& rank : ranks) list.push_back(ExaminationToJson(rank));
  const bool good = std::all_of(ranks.begin(), ranks.end(), [](const Examination& rank) { return rank.good(); });
  return {{"ok", good}, {"ranks", list}};
}

std::string ExaminationsText(const std::vector<Examination>& ranks, bool colour) {
  std::string text, section;
  size_t width = 0;
  for (const Examination& rank : ranks)
    for (const Finding& f : rank.findings) width = std::max(width, f.name.size());
  for (const Finding& f : ranks.front().findings) {
    if (f.section != section) text += fmt::format("{}{}\n", section.empty() ? "" : "\n", f.section);
    section = f.section;
    text += Line(f, width, colour);
  }
  for (const Alike& group : GroupOthers(ranks, width, colour))
    text += fmt::format("\nrank{} {} on {}: {}\n{}", group.ranks.size() == 1 ? "" : "s", JoinNames(group.ranks), group.host,
                        group.good ? "as rank 0" : "not well", group.news);
  const auto bad = std::count_if(ranks.begin(), ranks.end(), [](const Examination& rank) { return !rank.good(); });
  if (bad == 0) return text + "\nall that is there works\n";
  return text + fmt::format("\n{} of {} rank{} found something that fails\n", bad, ranks.size(), ranks.size() == 1 ? "" : "s");
}

}  // namespace plateau
