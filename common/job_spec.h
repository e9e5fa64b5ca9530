// The job specification: one schema for YAML files and JSON bodies, validated once, shared by every program.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "common/compute.h"
#include "common/error.h"
#include "common/interval.h"
#include "common/lr_plateau.h"

namespace plateau {

enum class Normalize { kMean, kMeanStd };  // recipe: RGB minus mean; also divided by the standard deviation

// gaussian(sigma): N(0, sigma^2); glorot: N(0, 2/(fan_in+fan_out)); he: N(0, 2/fan_in); biases 0 (recipe.md, Initialisation).
struct InitScheme {
  enum class Kind { kHe, kGlorot, kGaussian };
  Kind kind = Kind::kHe;
  double sigma = 0.01;  // gaussian only
  bool operator==(const InitScheme&) const = default;
};

// Which of a job's checkpoints another one takes: the newest that was published, or the best by its lr.metric.
enum class CheckpointPick { kFinal, kBest };

// How images are tested (recipe.md, Testing).
enum class EvaluationMode { kDense, kMultiCrop, kBoth, kCenter };

// kind: evaluate. Exactly one of job and checkpoint is given; the coordinator turns a job into its checkpoint before it launches.
struct Evaluation {
  std::string job;
  std::string checkpoint;  // a checkpoint's folder; absolute after parsing
  CheckpointPick pick = CheckpointPick::kFinal;  // with job
  std::string store;
  std::string split = "val";
  std::vector<int> scales{256};  // shortest sides Q, ascending; posteriors are averaged over them
  EvaluationMode mode = EvaluationMode::kDense;
  bool flip = true;         // also the mirror images
  bool posteriors = false;  // writes each image's posteriors beside the result
  bool per_class = false;   // confusion matrix and accuracy of each class
  int batch = 0;            // images or crops computed at once by a rank; 0: chosen by the worker
  std::optional<Precision> precision;  // absent: bf16 on CUDA, fp32 on the CPU
};

// A job starts when all of its dependencies are met: the other job is COMPLETED; has ended, however; is FAILED.
enum class DependencyCondition { kCompleted, kEnded, kFailed };
struct Dependency {
  std::string job;  // id
  DependencyCondition condition = DependencyCondition::kCompleted;
  bool operator==(const Dependency&) const = default;
};

// A validated specification with every default filled in. A value; units last in names.
struct JobSpec {
  int version = 1;
  std::string kind = "train";  // "train", "evaluate"
  std::string name;
  std::string output;  // checkpoints, logs and metrics go to <output>/<job>; absolute after parsing

  // Weights taken from a trained model before the first step; momentum starts at zero. Exactly one of job and checkpoint is given:
  // the coordinator turns a job into its checkpoint before it launches the workers.
  struct InitFrom {
    std::string job;                               // id of a job, which is waited for as a dependency; in a pipeline one of its names
    std::string checkpoint;                        // folder of a checkpoint or of a run; absolute after parsing
    CheckpointPick pick = CheckpointPick::kFinal;  // with job
    std::vector<std::string> layers{"all"};        // names of layers, or one of "all" and "vgg-first4-fc3" (recipe.md, Initialisation)
    std::string on_mismatch = "refuse";            // "refuse" or "skip" layers whose shapes differ
    bool operator==(const InitFrom&) const = default;
  };

  struct Model {
    std::string network;   // "vgg-a", "vgg-d", ... checked against worker's table by the worker, and here by name
    double width = 1.0;
    std::optional<InitFrom> init_from;  // absent: fresh weights
  } model;

  struct Data {
    std::string store;
    int train_scale_low = 256;   // S drawn from [low, high]; low == high is the fixed scale
    int train_scale_high = 256;
    int crop = 224;
    Normalize normalize = Normalize::kMeanStd;
    bool flip = true;
    bool colour = true;
  } data;

  struct Training {
    int global_batch = 256;
    int max_epochs = 74;
    std::optional<int64_t> max_steps;  // ends the run at this step when sooner than max_epochs
    double momentum = 0.9;
    double weight_decay = 5e-4;
    bool weight_decay_bias = true;
    double dropout = 0.5;
    InitScheme init;
    int micro_batch = 0;  // largest part of a rank's batch computed at once; 0: all of it, or as many rows as fit
    std::optional<Precision> precision;  // absent: bf16 on CUDA, fp32 on the CPU
  } training;

  LrPolicy lr;
  std::string lr_metric = "val_top1_error";  // val_top1_error | val_top5_error | val_loss

  struct Validation {
    Interval every;
    int scale = 256;   // shortest side Q; the centre crop of data.crop is evaluated
  } validation;

  struct Resources {
    int workers = 1;
    int min_workers = 1;  // the gang may start with this few when no more fit; equal to workers unless the specification says so
    DeviceKind device = DeviceKind::kAuto;
    CollectiveKind collective = CollectiveKind::kAuto;
    int threads_per_worker = 1;
    int priority = 50;  // 0..100, higher first
    double time_limit_s = 0;  // of running time; then the job writes a checkpoint and pauses; 0: none
  } resources;

  struct Checkpoint {
    Interval every;
    int keep_last = 2;
    int keep_best = 1;
  } checkpoint;

  struct Fault {
    int max_restarts = 5;
    double hang_timeout_s = 120;
  } fault;

  struct Reproducibility {
    uint64_t seed = 1;
    std::string mode = "exact";
  } reproducibility;

  Evaluation evaluate;                 // kind: evaluate; it has none of model, data, training, lr, validation, checkpoint
  std::vector<Dependency> depends_on;  // those of init_from.job and evaluate.job need not be here
};

// Parses YAML (JSON is a subset) or a JSON value. Errors name the file or "request body", the field path ("training.momentum"),
// the value and the remedy; an unknown field names the nearest known one. `force` lets the combinations pass that recipe.md calls
// diverging (he or glorot with normalize: mean). `where` stands at the front of each message.
Result<JobSpec> ParseJobSpecText(std::string_view text, const std::string& where, bool force = false);
Result<JobSpec> ParseJobSpecJson(const nlohmann::json& value, const std::string& where, bool force = false);
// Reads and parses a file; relative `output` and `data.store` are taken from the current folder.
Result<JobSpec> LoadJobSpec(const std::string& path, bool force = false);

// The full form with every default written out; ParseJobSpecJson of it gives the same spec. Key order is fixed.
nlohmann::ordered_json JobSpecToJson(const JobSpec& spec);
// YAML (as a JSON document is) turned into JSON without validation, so that a client can send a file and `--set` can edit it.
Result<nlohmann::ordered_json> YamlToJson(std::string_view text, const std::string& where);
// Sets a dotted field from text: ("training.max_epochs", "3"). Numbers, booleans, lists and maps are read as YAML.
Status SetField(nlohmann::ordered_json& document, const std::string& dotted, const std::string& yaml_value);

// "90s", "30m", "2h", "1.5d" -> seconds. The error lists the units.
Result<double> ParseDuration(std::string_view text, const std::string& field);
std::string IntervalText(const Interval& interval);
const char* EvaluationModeName(EvaluationMode mode);            // "dense", "multicrop", "both", "center"
Result<EvaluationMode> ParseEvaluationMode(const std::string& text, const std::string& field);
const char* CheckpointPickName(CheckpointPick pick);            // "final", "best"
const char* DependencyConditionName(DependencyCondition condition);  // "completed", "ended", "failed"
// depends_on, and the jobs whose checkpoints are taken; each job once.
std::vector<Dependency> AllDependencies(const JobSpec& spec);
// Steps of the whole run over a training split of `images`: enough for max_epochs, or max_steps when that is sooner.
RunLength LengthOf(const JobSpec& spec, int64_t images);
std::string InitSchemeText(const InitScheme& init);  // "he", "glorot", "gaussian(0.01)"
Result<InitScheme> ParseInitScheme(std::string_view text, const std::string& field);

// Names accepted in model.network by this version, in table order.
const std::vector<std::string>& KnownNetworks();

}  // namespace plateau
