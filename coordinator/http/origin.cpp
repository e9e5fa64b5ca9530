// Comparing a request's Origin with its Host, and the Host with the names of this machine.
#include "coordinator/http/origin.h"

#include <algorithm>

namespace plateau {
namespace {

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// "10.0.0.7" or "[::1]": digits and dots, or brackets, which no name has.
bool IsAddress(const std::string& name) {
  if (name.starts_with("[")) return name.ends_with("]");
  const bool digits = name.find_first_not_of("0123456789.") == std::string::npos;
  return digits && std::count(name.begin(), name.end(), '.') == 3;
}

}  // namespace

bool IsOwnOrigin(const std::string& origin, const std::string& host, const std::string& host_name,
                 const std::vector<std::string>& allowed) {
  const std::string asked = Lower(origin), at = Lower(host), own = Lower(host_name);
  for (const auto& one : allowed)
    if (asked == Lower(one)) return true;
  if (at.empty() || asked != "http://" + at) return false;
  const auto colon = at.rfind(':');
  const bool has_port = colon != std::string::npos && at.find(']', colon) == std::string::npos;
  const std::string name = has_port ? at.substr(0, colon) : at;
  return IsAddress(name) || name == "localhost" || (!own.empty() && (name == own || name.starts_with(own + ".")));
}

}  // namespace plateau
