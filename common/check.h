// CHECK for a programmer's mistake: prints the condition and its values, then aborts.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

#include <fmt/format.h>

namespace plateau {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition, const std::string& detail) {
  std::fprintf(stderr, "%s:%d: check failed: %s %s\n", file, line, condition, detail.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace plateau

// PLATEAU_CHECK(batch > 0, "batch {}", batch);
#define PLATEAU_CHECK(condition, ...)                                                                  \
  do {                                                                                                 \
    if (!(condition)) ::plateau::CheckFailed(__FILE__, __LINE__, #condition, fmt::format("" __VA_ARGS__)); \
  } while (false)
