// Reads a launcher's variables.
#include "worker/backend/device/launch_rank.h"

#include <charconv>
#include <cstdlib>
#include <cstring>

namespace plateau {

int RankFrom(std::initializer_list<const char*> variables) {
  for (const char* name : variables) {
    const char* text = std::getenv(name);
    int rank = 0;
    if (text == nullptr) continue;
    const auto [end, error] = std::from_chars(text, text + std::strlen(text), rank);
    if (error == std::errc() && *end == '\0' && rank >= 0) return rank;
  }
  return 0;
}

}  // namespace plateau
