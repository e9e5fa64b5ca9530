// `plateau-worker evaluate`: one rank's whole life, from joining the group to its exit code.
#pragma once

#include <optional>
#include <string>

#include "common/compute.h"
#include "worker/evaluate/settings.h"

namespace plateau {

struct EvaluateOptions {
  std::string checkpoint, store;
  std::string split = "val";
  TestSettings settings;   // no scales: the checkpoint's validation scale
  DeviceKind device = DeviceKind::kAuto;
  std::optional<Precision> precision;  // absent: bf16 on CUDA, fp32 on the CPU
  int threads = 0;         // 0: the cores that this rank may use
  int64_t limit = 0;       // the first images in source order; 0: all
  std::string posteriors;  // file; empty: none
  bool per_class = false;
  bool json = false, quiet = false;
  // As a job: the job's folder, in whose attempt-<attempt> result.json, per_class.json and posteriors.safetensors are written; empty:
  // nothing but `posteriors` is.
  std::string output;
  std::string spec_path;         // read by rank 0: it then sets everything above but json and quiet
  std::string coordinator, job;  // empty without a coordinator
  int attempt = 0;               // above 1: a fitting result of an earlier attempt is reported instead of testing again
};

// Exit code: 0 done, or stopped on a coordinator's command; 2 bad input; 3 weights or scores that are not finite; 1 otherwise. Rank
// 0 prints the result on stdout, errors come once on stderr.
int RunEvaluate(const EvaluateOptions& options);

}  // namespace plateau
