// Everything that the emulation knows, behind one lock: devices, their memory, operations, and the faults that a test asked for.
#pragma once

#include <driver_types.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace plateau::emulated {

struct Operation;
using OperationPtr = std::shared_ptr<Operation>;
using Lock = std::unique_lock<std::mutex>;

// A piece of work on its way: it runs once what stands `before` it is done, when a wait needs it.
struct Operation {
  enum class State { kWaiting, kRunning, kDone };
  int device = 0;
  std::function<void()> run;    // null: a mark
  std::function<bool()> ready;  // asked under the lock; null: always
  std::vector<OperationPtr> before;
  State state = State::kWaiting;
  uint64_t visit = 0;      // of the walk that saw it last
  double finished_ms = 0;  // host clock
};

struct Allocation {
  size_t bytes = 0;
  int device = -1;  // -1: page-locked host memory
};

struct Device {
  size_t used_bytes = 0;
  cudaError_t planned_fault = cudaSuccess, fault = cudaSuccess;
  CUstream_st* legacy = nullptr;    // the null stream
  std::vector<OperationPtr> loose;  // last operations of destroyed streams
};

struct CallFault {
  int status = 0, skip = 0, times = 0;
};

struct Capture;
struct System {
  std::mutex mutex;
  std::condition_variable changed;  // an operation is done, or a collective has moved
  std::deque<Device> devices;  // never fewer than before: streams of devices that a test took away still live
  int device_count = 0;        // those that answer
  size_t memory_bytes = 0;
  std::map<uintptr_t, Allocation> memory;  // by address
  std::set<CUstream_st*> streams;
  std::set<CUevent_st*> events;
  std::set<Capture*> captures;
  std::map<std::string, CallFault> call_faults;
  std::map<int, int> rank_faults;
  bool joins_held = false;
  uint64_t visits = 0;
  int64_t host_waits = 0, operations_run = 0;
  int communicators = 0;  // of NCCL, that have not ended
};
System& TheSystem();

int& CurrentDevice();  // of this thread
// The fault that a test planned for this call of `function`, 0 when none. Under the lock.
int TakeFault(const std::string& function);
cudaError_t SetLastError(cudaError_t code);
void ForgetLastError();

// The allocation that holds all of [data, data + bytes), null when none does. Under the lock.
const Allocation* FindAllocation(const void* data, size_t bytes);

// A call of the runtime: faults first, then `body`(lock) under the lock; the answer is remembered for cudaGetLastError.
template <class Body>
cudaError_t Call(const char* function, Body body) {
  System& system = TheSystem();
  Lock lock(system.mutex);
  cudaError_t code = static_cast<cudaError_t>(TakeFault(function));
  if (code == cudaSuccess && system.device_count == 0) code = cudaErrorNoDevice;
  if (code == cudaSuccess) code = system.devices[static_cast<size_t>(CurrentDevice())].fault;
  if (code == cudaSuccess) code = body(lock);
  return SetLastError(code);
}

}  // namespace plateau::emulated
