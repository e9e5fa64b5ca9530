// Reading Open MPI's hostfile format.
#include <algorithm>
#include <charconv>
#include <sstream>

#include "common/text.h"
#include "coordinator/node/node.h"

namespace plateau {
namespace {

constexpr int kMostCores = 65'536;

// "slots=4" -> {"slots", "4"}; no '=': an empty value.
std::pair<std::string, std::string> SplitSetting(const std::string& word) {
  const size_t equals = word.find('=');
  if (equals == std::string::npos) return {word, ""};
  return {word.substr(0, equals), word.substr(equals + 1)};
}

}  // namespace

bool IsHostName(const std::string& name) {
  return !name.empty() && name.size() <= 253 && name[0] != '-' && name[0] != '.' &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == std::string::npos;
}

Result<std::vector<HostfileEntry>> ParseHostfile(std::string_view text, const std::string& where) {
  std::vector<HostfileEntry> entries;
  int number = 0;
  for (const std::string& line : SplitText(text, '\n')) {
    number += 1;
    std::istringstream words(line.substr(0, line.find('#')));
    HostfileEntry entry;
    if (!(words >> entry.name)) continue;
    if (!IsHostName(entry.name))
      return Fail(ErrorCode::kInvalidInput, "{}: line {}: \"{}\" is not a host name; write `host slots=N` a line", where, number,
                  entry.name);
    for (std::string word; words >> word;) {
      const auto [key, value] = SplitSetting(word);
      if (key == "max_slots" || key == "max-slots") continue;  // jobs never get more than slots
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), entry.cores);
      const bool whole = error == std::errc() && end == value.data() + value.size();
      if (key != "slots" || !whole || entry.cores < 1 || entry.cores > kMostCores)
        return Fail(ErrorCode::kInvalidInput, "{}: line {}: \"{}\" is not understood; write `{} slots=N` with N from 1 on", where,
                    number, word, entry.name);
    }
    const auto known =
        std::find_if(entries.begin(), entries.end(), [&](const HostfileEntry& one) { return one.name == entry.name; });
    if (known == entries.end())
      entries.push_back(entry);
    else
      known->cores += entry.cores;
  }
  if (entries.empty()) return Fail(ErrorCode::kInvalidInput, "{}: no host is named; write `host slots=N` a line", where);
  return entries;
}

}  // namespace plateau
