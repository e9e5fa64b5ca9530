// The emulation's one state, and what a test may do to it.
#include "tests/support/cuda/system.h"

#include <algorithm>
#include <cstdlib>

#include "tests/support/cuda/emulation.h"
#include "tests/support/cuda/stream.h"

namespace plateau::emulated {
namespace {

thread_local int current_device = 0;

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == 0 ? otherwise : std::strtoll(text, nullptr, 10);
}

void SetDevices(System& system, int count) {
  system.device_count = count;
  while (static_cast<int>(system.devices.size()) < std::max(count, 1)) {
    Device device;
    device.legacy = new CUstream_st{.device = static_cast<int>(system.devices.size()), .blocking = true};
    system.devices.push_back(device);
  }
}

void Defaults(System& system) {
  SetDevices(system, static_cast<int>(FromEnvironment("PLATEAU_PRETENDED_DEVICES", kDefaultDevices)));
  system.memory_bytes = static_cast<size_t>(FromEnvironment("PLATEAU_PRETENDED_MEMORY", kDefaultMemoryBytes));
}

// Never freed: handles in static objects of a test may outlive every destructor of ours.
System* MakeSystem() {
  auto* system = new System;
  Defaults(*system);
  return system;
}

}  // namespace

System& TheSystem() {
  static System* const system = MakeSystem();
  return *system;
}

int& CurrentDevice() {
  if (current_device >= TheSystem().device_count) current_device = 0;
  return current_device;
}

int TakeFault(const std::string& function) {
  auto& faults = TheSystem().call_faults;
  const auto found = faults.find(function);
  if (found == faults.end()) return 0;
  if (found->second.skip-- > 0) return 0;
  const int status = found->second.status;
  if (--found->second.times == 0) faults.erase(found);
  return status;
}

const Allocation* FindAllocation(const void* data, size_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  const auto& memory = TheSystem().memory;
  auto next = memory.upper_bound(address);
  if (next == memory.begin()) return nullptr;
  --next;
  return address + bytes <= next->first + next->second.bytes ? &next->second : nullptr;
}

void Reset() {
  System& system = TheSystem();
  const Lock lock(system.mutex);
  DropAllWork(system);
  for (Device& device : system.devices) device.fault = device.planned_fault = cudaSuccess;
  Defaults(system);
  system.call_faults.clear();
  system.rank_faults.clear();
  system.joins_held = false;
  system.host_waits = system.operations_run = 0;
  ForgetLastError();
}

void SetDeviceCount(int devices) {
  const Lock lock(TheSystem().mutex);
  SetDevices(TheSystem(), devices);
}

void SetMemoryBytes(size_t bytes) {
  const Lock lock(TheSystem().mutex);
  TheSystem().memory_bytes = bytes;
}

void FailCall(const std::string& function, int status, int skip, int times) {
  const Lock lock(TheSystem().mutex);
  TheSystem().call_faults[function] = {status, skip, times};
}

void FailDevice(int device, int status) {
  const Lock lock(TheSystem().mutex);
  TheSystem().devices.at(static_cast<size_t>(device)).planned_fault = static_cast<cudaError_t>(status);
}

void FailRank(int rank, int status) {
  const Lock lock(TheSystem().mutex);
  TheSystem().rank_faults[rank] = status;
  TheSystem().changed.notify_all();
}

void HoldJoins(bool held) {
  const Lock lock(TheSystem().mutex);
  TheSystem().joins_held = held;
}

int Communicators() {
  const Lock lock(TheSystem().mutex);
  return TheSystem().communicators;
}
int64_t HostWaits() {
  const Lock lock(TheSystem().mutex);
  return TheSystem().host_waits;
}

int64_t OperationsRun() {
  const Lock lock(TheSystem().mutex);
  return TheSystem().operations_run;
}

}  // namespace plateau::emulated
