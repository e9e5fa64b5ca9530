// Small text helpers for messages: nearest name, human sizes and durations.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plateau {

// The known name with the smallest edit distance to `name`; empty when none is within a third of its length (at least 2 edits).
std::string NearestName(std::string_view name, std::span<const std::string> known);
std::string HumanDuration(double seconds);  // "4.2s", "3m 07s", "2h 14m", "5d 03h"
std::string HumanBytes(uint64_t bytes);     // "512 B", "1.5 MiB"
std::string JoinNames(std::span<const std::string> names);  // "a, b, c"
std::vector<std::string> SplitText(std::string_view text, char separator);

}  // namespace plateau
