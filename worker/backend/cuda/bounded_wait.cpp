// A thread that sits in CUDA's wait for another one.
#include "worker/backend/cuda/bounded_wait.h"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "common/check.h"
#include "common/log.h"

namespace plateau::cuda {
namespace {

constexpr std::chrono::seconds kPatience{5};  // of the destructor

}  // namespace

struct BoundedWait::Shared {
  std::mutex mutex;
  std::condition_variable changed;
  const Event* event = nullptr;  // being waited for
  std::exception_ptr fault;      // of the last wait
  bool ending = false, ended = false;

  void Serve(int device) {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return event != nullptr || ending; });
      if (event == nullptr) break;
      const Event* const waited_for = event;
      lock.unlock();
      std::exception_ptr found;
      try {
        Check(cudaSetDevice(device), "cudaSetDevice");
        waited_for->Wait();
      } catch (...) {
        found = std::current_exception();
      }
      lock.lock();
      event = nullptr;
      fault = found;
      changed.notify_all();
    }
    ended = true;
    changed.notify_all();
  }
};

BoundedWait::BoundedWait(int device) : shared_(std::make_shared<Shared>()) {
  std::thread([shared = shared_, device] { shared->Serve(device); }).detach();
}

BoundedWait::~BoundedWait() {
  std::unique_lock lock(shared_->mutex);
  shared_->ending = true;
  shared_->changed.notify_all();
  if (!shared_->changed.wait_for(lock, kPatience, [this] { return shared_->ended; }))
    LogWarning("a step on the device has not ended {} s after it was given up; its thread is left behind", kPatience.count());
}

bool BoundedWait::Until(const Event& event, int64_t bound_ms) {
  std::unique_lock lock(shared_->mutex);
  PLATEAU_CHECK(shared_->event == nullptr || shared_->event == &event, "{}", "another event is still waited for");
  if (shared_->event == nullptr) {
    shared_->event = &event;
    shared_->changed.notify_all();
  }
  if (!shared_->changed.wait_for(lock, std::chrono::milliseconds(bound_ms), [this] { return shared_->event == nullptr; })) return false;
  if (const std::exception_ptr fault = std::exchange(shared_->fault, nullptr)) std::rethrow_exception(fault);
  return true;
}

}  // namespace plateau::cuda
