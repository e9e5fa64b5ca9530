// A thread that waits for the end of each step, and says when it does not come.
#include "worker/doctor/watchdog.h"

#include "common/check.h"

namespace plateau {

Watchdog::Watchdog(std::chrono::milliseconds limit, std::function<void(const std::string& step)> on_expiry)
    : limit_(limit), on_expiry_(std::move(on_expiry)), thread_([this] { Watch(); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    leaving_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Watchdog::Begin(std::string step) {
  {
    const std::lock_guard lock(mutex_);
    PLATEAU_CHECK(step_.empty() && !step.empty(), "\"{}\" begins within \"{}\"", step, step_);
    step_ = std::move(step);
    deadline_ = std::chrono::steady_clock::now() + limit_;
  }
  changed_.notify_all();
}

void Watchdog::End() {
  {
    const std::lock_guard lock(mutex_);
    step_.clear();
  }
  changed_.notify_all();
}

void Watchdog::Watch() {
  std::unique_lock lock(mutex_);
  while (!leaving_) {
    if (step_.empty()) {
      changed_.wait(lock);
    } else if (changed_.wait_until(lock, deadline_) == std::cv_status::timeout && !step_.empty() &&
               std::chrono::steady_clock::now() >= deadline_) {
      on_expiry_(step_);
      return;
    }
  }
}

}  // namespace plateau
