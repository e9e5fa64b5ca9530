// What a checkpoint's state.json holds besides tensors: where the run is, its learning rate, and what it was made with.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/lr_plateau.h"
#include "common/messages.h"
#include "dataset/pipeline.h"

namespace plateau {

// One validation and what it led to.
struct ValidationRecord {
  ValidationReport report;
  double value = 0;  // of the metric that the learning rate follows
  LrDecision decision;
};

// The changing part of a run. Everything random is a function of (seed, step), so nothing random is here.
struct TrainState {
  int64_t step = 0;  // steps done; the next one has this number
  LrState lr;
  std::vector<ValidationRecord> history;
  int64_t last_validation_step = 0;     // step of the newest validation, 0 before the first
  double seconds_since_validation = 0;  // for time-based intervals
  double seconds_since_checkpoint = 0;
  std::string end_reason;  // "MAX_EPOCHS", "MAX_STEPS", "PLATEAU" in a run's final checkpoint, else empty
};

// What results depend on: equal fingerprints give equal bits (design.md, "exact").
struct Fingerprint {
  int ranks = 1;
  int threads_per_rank = 1;
  int lanes = 1;        // of rank 0
  int micro_batch = 0;  // rows of a lane on rank 0
  std::string device;   // the engine's description: library version, instruction set
  std::string precision;  // "bf16"; "" in files that did not say
  std::string libraries;
  std::vector<std::string> algorithms;  // one line a layer and pass
  bool operator==(const Fingerprint&) const = default;
};

// What stays the same through an attempt.
struct RunIdentity {
  std::string job;
  int attempt = 1;
  int lineage = 1;        // the attempt that began this run from fresh weights
  std::string spec_json;  // the full specification
  std::string metric;     // "val_top1_error"
  int64_t global_batch = 0;
  Fingerprint fingerprint;
  int largest_lane =
      -1;  // rows at most, what training.micro_batch came to; 0: a rank's rows at once; -1: in files that did not say
  std::map<std::string, std::string> choices;  // of algorithms on a device (AlgorithmChoices); a resume replays them
  Preprocessing preprocessing;
  int validation_scale = 0;
  std::string network;
  double width = 1;
  std::vector<ClassInfo> classes;
  std::string store_name, store_checksum;  // of the training split
  int64_t images = 0;                      // in the training split
};

struct CheckpointState {
  RunIdentity identity;
  TrainState train;
};

// state.json, format 1 (worker/CHECKPOINT.md). Decode names the path and the field that is missing or wrong.
std::string EncodeState(const CheckpointState& state);
Result<CheckpointState> DecodeState(const std::string& text, const std::string& path);

// Empty when a run of `now` may go on from a checkpoint of `then` with the same samples and shapes, else why not.
std::string WhyNotResumable(const RunIdentity& now, const RunIdentity& then);
// Empty when equal, else what differs, for the log: bits will then differ from an undisturbed run's.
std::string FingerprintDifference(const Fingerprint& now, const Fingerprint& then);
// By how much, in words, where FingerprintDifference says that something does. `batch_norm`: the network has layers of it.
std::string DifferenceMeans(const Fingerprint& now, const Fingerprint& then, bool batch_norm);

}  // namespace plateau
