// What rank 0 tells people and the coordinator while it trains: log lines, a progress bar, metrics.jsonl, Metrics messages.
#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <string>

#include "common/clock.h"
#include "common/messages.h"
#include "common/progress.h"
#include "worker/train/authority.h"
#include "worker/train/checkpoint_saver.h"
#include "worker/train/reducer.h"
#include "worker/train/state.h"

namespace plateau {

struct ReporterOptions {
  std::string metrics_path;  // metrics.jsonl, appended; a fault in writing it is warned of once
  int64_t first_step = 0, total_steps = 0;
  int64_t images_per_epoch = 1;
  int global_batch = 1;
  std::string metric;     // "val_top1_error"
  bool terminal = false;  // stderr is one: a progress bar instead of lines
};

// Training thread of rank 0 only.
class Reporter {
 public:
  Reporter(ReporterOptions options, const Clock& clock, Authority& authority);
  // After each step. `data_wait_s`: how long the step waited for its batch.
  void Step(int64_t step, double lr, const StepTotals& totals, double data_wait_s);
  void Validation(const ValidationRecord& record, double seconds);
  // A checkpoint was begun; only a line of metrics.jsonl.
  void Checkpoint(int64_t step, const SavePause& pause);
  void Finish(int64_t step);

 private:
  struct Window {
    int64_t begin_ms = 0, steps = 0, images = 0;
    double loss = 0, data_wait_s = 0;  // loss: sum of per-sample losses
  };
  void Sample(int64_t step, double lr, int64_t now_ms);
  void Append(const std::string& line);

  ReporterOptions options_;
  const Clock& clock_;
  Authority& authority_;
  std::ofstream metrics_;
  bool metrics_failed_ = false;
  Window sample_, logged_;
  int64_t stepped_ms_ = 0;  // when the last step ended
  std::unique_ptr<Progress> progress_;
};

}  // namespace plateau
