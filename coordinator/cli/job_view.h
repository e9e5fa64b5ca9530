// A job as REST shows it, read into plain fields, and how the command line draws it. Pure: no I/O.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "coordinator/cli/terminal.h"

namespace plateau {

struct WorkerRow {
  int rank = 0;
  std::string host;
  int64_t pid = 0;
  int64_t step = 0;
  std::string phase;
  double heartbeat_age_s = 0;
  std::string gpu;  // id on its host; empty: it runs on the CPU
};

struct AttemptRow {
  int number = 0;
  std::string state, reason, started, ended;
  std::optional<int> exit_code;
  std::string gpus;  // "n1: GPUs 0,3; n2: GPU 1"; empty: it ran on the CPU
};

// Times are UTC texts as in the API, empty when absent. What a summary lacks stays empty.
struct JobView {
  std::string id, name, kind, pipeline, state, reason, message, created, started, ended, network, device, device_why;
  std::string output, checkpoint_path, best_metric;
  int priority = 0, attempt = 0, restarts = 0, max_restarts = 0, max_epochs = 0, best_validation = 0;
  int64_t last_event = 0;
  int64_t step = 0, max_steps = 0, checkpoint_step = 0, global_batch = 0;  // max_steps and global_batch 0: unknown
  double epoch = 0, ran_s = 0, time_limit_s = 0;                           // time_limit_s 0: none
  std::optional<double> ran_in_all_s;                                      // nothing from a coordinator of an earlier release
  std::optional<double> loss, lr, images_per_s, best;
  std::optional<double> top1_error, top5_error;  // of an evaluation that is over
  std::vector<WorkerRow> workers;
  std::vector<AttemptRow> attempts;

  bool Ended() const;               // COMPLETED, FAILED, CANCELLED
  bool Rests() const;               // ended or PAUSED: nothing happens until somebody asks
  double Share() const;             // of max_epochs or max_steps, whichever is nearer to its end
  double RemainingSeconds() const;  // of training at the present rate, an upper bound; negative when unknown
  // 0 COMPLETED; 3 FAILED with NAN_LOSS; 1 otherwise.
  int ExitCode() const;
};

struct ValidationRow {
  int number = 0;
  int64_t step = 0;
  double epoch = 0, top1_error = 0, top5_error = 0, loss = 0;
};

struct EventRowView {
  int64_t seq = 0;
  std::string time, type, message;
};

struct DecisionRow {
  int validation = 0;
  int64_t step = 0;
  double epoch = 0, value = 0, lr = 0;
  std::string action, reason;
  bool improved = false;
};

// Missing and null fields keep their defaults.
JobView ReadJobView(const nlohmann::ordered_json& job);
std::vector<ValidationRow> ReadValidations(const nlohmann::ordered_json& metrics);
std::vector<EventRowView> ReadEvents(const nlohmann::ordered_json& events);
std::vector<DecisionRow> ReadDecisions(const nlohmann::ordered_json& lr_history);

Colour StateColour(const std::string& state);
// "56.10%" for an error metric, "1.2345" for a loss.
std::string MetricText(const std::string& metric, double value);

// Its running time, without pauses and waiting; "-" before its first attempt. From an earlier coordinator: since its start.
std::string TimeText(const JobView& job, int64_t now_ms);
// The table of `plateau jobs`.
std::string RenderJobs(const Style& style, const std::vector<JobView>& jobs, int64_t now_ms);
// The page of `plateau show`.
std::string RenderJob(const Style& style, const JobView& job, const std::vector<ValidationRow>& validations,
                      const std::vector<DecisionRow>& decisions, int64_t now_ms);
// The LR history: one line a decision with its reason; `only_changes` leaves the kept ones out.
std::string RenderDecisions(const Style& style, const std::string& metric, const std::vector<DecisionRow>& decisions,
                            bool only_changes);
std::string RenderEvent(const Style& style, const EventRowView& event);
// The live view of `plateau watch`: at most style.columns wide, one line an element.
std::vector<std::string> RenderLive(const Style& style, const JobView& job, const std::vector<ValidationRow>& validations,
                                    const std::vector<EventRowView>& newest_events);
// "epoch 1.25/60  step 200  loss 2.9012  lr 0.01  812 images/s  at most 12m 04s left"
std::string RenderProgress(const JobView& job);

}  // namespace plateau
