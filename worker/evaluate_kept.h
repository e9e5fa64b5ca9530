// The files of a test that runs as a job, and the result that an earlier attempt of the job may have left there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/file.h"

namespace plateau {

inline constexpr const char *kResultFile = "result.json", *kPerClassFile = "per_class.json", *kPosteriorsFile = "posteriors.safetensors";

// An attempt's folder, relative to the job's: "attempt-3". Below 1 counts as 1: a job that was started by hand.
std::string EvaluateAttemptFolder(int attempt);

// What a result must say to stand for a test that is about to begin.
struct WantedResult {
  std::string checkpoint_checksum, split_checksum, mode;
  std::vector<int> scales;
  bool flip = false;
  int64_t images = 0;
  bool posteriors = false, per_class = false;
  std::string device, precision;  // as the engine describes itself; scores of another differ in their last bits, and more in bf16
};

struct KeptResult {
  int attempt = 0;   // who left it; 0: there is none
  std::string text;  // result.json's document, on one line
};

// The newest complete result of the attempts before `attempt` that says what is wanted and whose files are there. Files that cannot be
// read are passed over: the test can always be made again.
KeptResult FindKeptResult(FileSystem& files, const std::string& job_folder, int attempt, const WantedResult& wanted);

}  // namespace plateau
