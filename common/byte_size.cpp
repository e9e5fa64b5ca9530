// Reads sizes of memory.
#include "common/byte_size.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>

namespace plateau {
namespace {

constexpr double kMost = static_cast<double>(uint64_t{1} << 60);

struct Unit {
  std::string_view name;
  double bytes;
};
constexpr Unit kUnits[] = {{"b", 1},    {"kib", 0x1p10}, {"mib", 0x1p20}, {"gib", 0x1p30}, {"tib", 0x1p40},
                           {"kb", 1e3}, {"mb", 1e6},     {"gb", 1e9},     {"tb", 1e12}};

std::optional<double> BytesOf(std::string_view name) {
  std::string lower(name);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const Unit& unit : kUnits)
    if (unit.name == lower) return unit.bytes;
  return {};
}

}  // namespace

Result<uint64_t> ParseByteSize(const std::string& text, const std::string& unit, const std::string& field) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view rest(end, static_cast<size_t>(text.data() + text.size() - end));
  while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
  const auto factor = BytesOf(rest.empty() ? std::string_view(unit) : rest);
  const double bytes = error == std::errc() && factor ? number * *factor : 0;
  if (bytes >= 1 && bytes <= kMost) return static_cast<uint64_t>(std::llround(bytes));
  return Fail(ErrorCode::kInvalidInput,
              "{} {}: not a size; give a number of {} above 0, such as 80, or one with its unit: 80GiB, 80GB, 512MiB", field,
              text.empty() ? "\"\"" : text, unit);
}

}  // namespace plateau
