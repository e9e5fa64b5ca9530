// Threads that take task numbers from one counter.
#include "dataset/task_pool.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "common/check.h"

namespace plateau {

Status RunTasks(uint64_t count, int jobs, const std::function<Status(uint64_t)>& task) {
  PLATEAU_CHECK(jobs >= 1, "jobs {}", jobs);
  std::atomic<uint64_t> next{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  uint64_t failed = count;
  Status result;
  const auto work = [&] {
    while (!stop) {
      const uint64_t number = next.fetch_add(1);
      if (number >= count) return;
      auto status = task(number);
      if (status) continue;
      stop = true;
      const std::lock_guard lock(mutex);
      if (number < failed) {
        failed = number;
        result = std::move(status);
      }
    }
  };
  std::vector<std::jthread> threads;
  const uint64_t wanted = std::min<uint64_t>(static_cast<uint64_t>(jobs), count);
  for (uint64_t thread = 0; thread < wanted; ++thread) threads.emplace_back(work);
  threads.clear();  // joins
  return result;
}

}  // namespace plateau
