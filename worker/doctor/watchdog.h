// Ends what hangs: a driver, a device or a network that does not answer comes back with no error for the doctor to print.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace plateau {

// Owns a thread. One step at a time, all from one thread.
class Watchdog {
 public:
  // `on_expiry` hears of the step that has taken longer than `limit`, once, on the watchdog's thread; a program ends in it. Until
  // it returns the step's thread cannot leave the step, so what that thread changes between steps may be read.
  Watchdog(std::chrono::milliseconds limit, std::function<void(const std::string& step)> on_expiry);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // What `work` answers. `step` says for people what runs, and where: "the self-test of CUDA device 1, NVIDIA H200".
  template <typename Work>
  auto Bound(std::string step, const Work& work) {
    const Step bounded(*this, std::move(step));
    return work();
  }

 private:
  struct Step {
    Step(Watchdog& dog, std::string name) : dog(dog) { dog.Begin(std::move(name)); }
    ~Step() { dog.End(); }
    Step(const Step&) = delete;
    Step& operator=(const Step&) = delete;
    Watchdog& dog;
  };
  void Begin(std::string step);
  void End();
  void Watch();

  const std::chrono::milliseconds limit_;
  const std::function<void(const std::string& step)> on_expiry_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string step_;  // empty between steps
  std::chrono::steady_clock::time_point deadline_;
  bool leaving_ = false;
  std::thread thread_;
};

}  // namespace plateau
