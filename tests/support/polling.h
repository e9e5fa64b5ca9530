// Waiting in a test for something that another process or thread does, with a bound.
#pragma once

#include <chrono>
#include <thread>

namespace plateau::test {

// True as soon as `condition()` is; false when `limit_ms` has passed. For conditions that no event announces to the test.
template <typename Condition>
bool Eventually(Condition condition, int limit_ms = 20'000) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(limit_ms);
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

}  // namespace plateau::test
