// The device a process computes on, with the handles of the libraries that work there.
#pragma once

#include <functional>
#include <map>
#include <string>

#include <cublasLt.h>
#include <cudnn.h>

#include "worker/backend/cuda/kernels/types.h"
#include "worker/backend/cuda/runtime.h"
#include "worker/nn/algorithm_choices.h"
#include "worker/nn/plan.h"
#include "worker/nn/start_watch.h"

namespace plateau::cuda {

void Check(cudnnStatus_t code, const char* what);  // as for the runtime's: throws Failure
void Check(cublasStatus_t code, const char* what);
std::string Describe(cudnnStatus_t code);  // cuDNN's own words, with what it last complained of
std::string Describe(cublasStatus_t code);

inline constexpr const char* kChoosing = "choosing algorithms";  // which is on record, or timed

// Parts of a workspace begin at multiples of this.
inline constexpr size_t kWorkspaceAlign = 256;
inline size_t AlignedBytes(size_t bytes) { return (bytes + kWorkspaceAlign - 1) / kWorkspaceAlign * kWorkspaceAlign; }

// One a process and engine. Makes its device current for the thread that builds it and uses it: one thread at a time.
class Libraries {
 public:
  // Throws Failure when the device or a library does not answer, or is older than what this was compiled for.
  Libraries(int device, Precision precision, bool deterministic, AlgorithmChoices& choices);
  ~Libraries();
  Libraries(const Libraries&) = delete;
  Libraries& operator=(const Libraries&) = delete;

  int device() const { return device_; }
  Precision precision() const { return precision_; }
  bool deterministic() const { return deterministic_; }
  DataType map_type() const { return precision_ == Precision::kBf16 ? DataType::kBf16 : DataType::kFloat; }
  AlgorithmChoices& choices() { return choices_; }
  Stream& stream() { return stream_; }            // of all computing
  cudnnHandle_t cudnn() const { return cudnn_; }  // bound to stream()
  cublasLtHandle_t cublas() const { return cublas_; }
  const std::string& device_name() const { return device_name_; }        // "NVIDIA H200, sm_90"
  const std::string& versions() const { return versions_; }              // "CUDA 13.0, cuDNN 9.19.0, cuBLASLt 13.1.0"
  const std::string& cudnn_version() const { return cudnn_version_; }    // "cuDNN 9.19.0"
  const std::string& cublas_version() const { return cublas_version_; }  // "cuBLASLt 13.1.0"
  // Borrowed; null: nobody watches.
  void WatchBy(StartWatch* watch) { watch_ = watch; }
  // Throws StartStopped when the watch wants it. Called between pieces of timing, each of which takes moments.
  void GoOn() const;
  // What `time` found for `key` (of a shape and pass, without the layer): layers of one shape are timed once a process.
  std::string TimedOnce(const std::string& key, const std::function<std::string()>& time);
  // Memory that timing may use while plans are built, at least this large, filled anew with small positive numbers whatever the map
  // type; grows, freed by ReleaseScratch. Throws Failure, kUnavailable when memory is short; the scratch is empty then.
  void* TimingScratch(size_t bytes);
  void ReleaseScratch();

 private:
  void Close();

  int device_;
  Precision precision_;
  bool deterministic_;
  AlgorithmChoices& choices_;
  StartWatch* watch_ = nullptr;
  std::string device_name_;  // its initialiser makes the device current
  Stream stream_;
  cudnnHandle_t cudnn_ = nullptr;
  cublasLtHandle_t cublas_ = nullptr;
  std::string versions_, cudnn_version_, cublas_version_;
  std::map<std::string, std::string> timed_;
  DeviceBuffer scratch_;
};

}  // namespace plateau::cuda
