// What a specification asks of the machine that computes it.
#pragma once

#include <string>

#include "common/job_spec.h"

namespace plateau {

// kCuda: every worker needs a GPU; kCpu: none may see one; kAuto: the launch decides.
struct DeviceNeed {
  DeviceKind device = DeviceKind::kAuto;
  std::string field;  // that says so, with its value: "training.precision: bf16"
};

// With device: auto, what only CUDA computes (bf16, tf32, NCCL) needs it all the same.
DeviceNeed NeedOf(const JobSpec& spec);

}  // namespace plateau
