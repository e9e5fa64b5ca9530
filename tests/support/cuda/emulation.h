// What a test of the emulated build may do to the pretended device: its size, its number, and its faults. Tests that are also built for
// a real device must not include this.
//
// The emulation is one header-compatible stand-in for the CUDA runtime (cudart_*.cpp), cuDNN's backend API (cudnn*.cpp), cuBLASLt
// (cublaslt*.cpp) and NCCL (nccl.cpp). It checks how they are called and computes what they would; it says nothing about speed, about a
// library's choice of engines or about bits on a device. Streams are lazy: queued work runs when a wait needs it and not before, so
// that a missing dependency gives stale or poisoned data each time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace plateau::emulated {

inline constexpr int kDefaultDevices = 4;                             // or PLATEAU_PRETENDED_DEVICES
inline constexpr size_t kDefaultMemoryBytes = size_t{4} << 30;        // of each, or PLATEAU_PRETENDED_MEMORY (bytes)

// Back to the defaults: no faults, nothing queued. Memory, streams and handles that the test still holds stay valid.
void Reset();
// 0: no device, cudaGetDeviceCount answers cudaErrorNoDevice.
void SetDeviceCount(int devices);
// Of each device, what is in use included.
void SetMemoryBytes(size_t bytes);

// Call number `skip` + 1 of `function` from now on ("cudaMalloc", "cudnnBackendExecute", "ncclAllReduce") answers `status` (the
// library's own number) and does nothing, as do the `times` - 1 calls behind it.
void FailCall(const std::string& function, int status, int skip = 0, int times = 1);
// The next operation that `device` runs fails with `status` (a cudaError_t): every later call for that device answers it.
void FailDevice(int device, int status);
// Communicators in which `rank` takes part report `status` (an ncclResult_t) from ncclCommGetAsyncError, and their operations never end.
void FailRank(int rank, int status);

// Communicators that were made and neither destroyed nor aborted to the end.
int Communicators();
// While held, communicators that do not block are under way and never made.
void HoldJoins(bool held);

// How often the host waited for a device since Reset: synchronising calls, blocking copies and copies to pageable memory.
int64_t HostWaits();
// Operations that devices ran since Reset (kernels, copies, library calls; a graph counts its nodes).
int64_t OperationsRun();

}  // namespace plateau::emulated
