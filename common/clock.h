// Time as an interface, so that a test can turn it by hand.
#pragma once

#include <cstdint>
#include <string>

namespace plateau {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t NowMs() const = 0;        // Unix time, milliseconds
  virtual int64_t MonotonicMs() const = 0;  // never goes back; origin unspecified
};

// The machine's clock.
class SystemClock final : public Clock {
 public:
  int64_t NowMs() const override;
  int64_t MonotonicMs() const override;
};

// A clock that moves when told; both readings advance together.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(int64_t now_ms = 0) : now_ms_(now_ms) {}
  int64_t NowMs() const override { return now_ms_; }
  int64_t MonotonicMs() const override { return now_ms_; }
  void AdvanceMs(int64_t by_ms) { now_ms_ += by_ms; }

 private:
  int64_t now_ms_;
};

// "2026-11-22T06:03:41.123Z" for Unix milliseconds.
std::string FormatUtc(int64_t unix_ms);

}  // namespace plateau
