// The machine's clock and UTC text.
#include "common/clock.h"

#include <chrono>
#include <ctime>

#include <fmt/format.h>

namespace plateau {

int64_t SystemClock::NowMs() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

int64_t SystemClock::MonotonicMs() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string FormatUtc(int64_t unix_ms) {
  int64_t seconds = unix_ms / 1000, rest_ms = unix_ms % 1000;
  if (rest_ms < 0) seconds -= 1, rest_ms += 1000;
  const std::time_t time = static_cast<std::time_t>(seconds);
  std::tm utc{};
  gmtime_r(&time, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour,
                     utc.tm_min, utc.tm_sec, rest_ms);
}

}  // namespace plateau
