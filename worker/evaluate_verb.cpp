// Command line of `plateau-worker evaluate`.
#include "worker/evaluate_verb.h"

#include <memory>

#include "worker/compute_flags.h"
#include "worker/evaluate_run.h"
#include "worker/flag_ranges.h"

namespace plateau {
namespace {

constexpr const char* kFooter = R"(Modes (worker/EVALUATE.md):
  dense      the whole image: fully connected layers become convolutions, class scores are averaged over the map
  multicrop  25 crops of a regular grid a scale, 50 with --flip
  both       mean of the posteriors of dense and multicrop
  center     the crop in the middle, as validation does
CHECKPOINT is the folder of a checkpoint (step-...) or of a run (its published checkpoint). Network, crop, classes and normalisation come
from it; the store's classes must be the same. A scale is the length of the scaled image's shortest side, at least the crop.
Examples:
  plateau evaluate runs/vgg-a-1 --store imagenet --scales 256
  plateau evaluate runs/vgg-d-1 --store imagenet --scales 224,256,288 --mode both --flip --posteriors d.safetensors
  mpirun -np 4 --map-by slot:PE=2 plateau-worker evaluate runs/vgg-d-1 --store imagenet --scales 256,384,512 --mode dense --flip
  plateau evaluate runs/vgg-a-1/attempt-1/step-000001000 --store shapes --mode center --per-class --json
  plateau fuse d.safetensors e.safetensors
  mpirun -np 2 plateau-worker evaluate --spec test.yaml          writes result.json to <output>/<name>/attempt-1
Results do not depend on the number of ranks; those of another --batch, device or precision differ (worker/EVALUATE.md says by how much).
Exit codes: 0 done, 2 bad input, 3 weights or scores that are not finite, 1 anything else.)";

// What the command line says before it is checked.
struct Flags {
  EvaluateOptions options;
  std::string scales, mode = "dense";
  ComputeFlags compute;
};

Status ReadFlags(Flags& flags) {
  EvaluateOptions& options = flags.options;
  if (!options.spec_path.empty()) return {};
  if (options.checkpoint.empty() || options.store.empty())
    return Fail(ErrorCode::kInvalidInput, "{} is missing; give CHECKPOINT and --store STORE, or --spec SPEC",
                options.checkpoint.empty() ? "CHECKPOINT" : "--store");
  PLATEAU_ASSIGN(options.settings.mode, ParseEvaluationMode(flags.mode, "--mode"));
  PLATEAU_ASSIGN(options.device, ParseDeviceKind(flags.compute.device, "--device"));
  PLATEAU_ASSIGN(options.precision, ParsePrecision(flags.compute.precision, "--precision"));
  if (!flags.scales.empty()) {
    PLATEAU_ASSIGN(options.settings.scales, ParseScales(flags.scales));
  }
  return {};
}

}  // namespace

void AddEvaluateVerb(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<Flags>();
  EvaluateOptions& options = flags->options;
  CLI::App* verb = app.add_subcommand("evaluate", "Test a checkpoint: dense, multi-crop or centre crop, over several scales");
  verb->add_option("checkpoint,--checkpoint", options.checkpoint, "Folder of a checkpoint or of a run");
  verb->add_option("--store", options.store, "Store with the images");
  verb->add_option("--split", options.split, "Which of its splits")->capture_default_str();
  verb->add_option("--scales", flags->scales, "Shortest sides, such as 224,256,288; default: the checkpoint's validation scale");
  verb->add_option("--mode", flags->mode, "dense, multicrop, both or center")->capture_default_str();
  verb->add_flag("--flip", options.settings.flip, "Mirror images too");
  verb->add_option("--posteriors", options.posteriors, "Write each image's posteriors to this file, for `plateau fuse`");
  verb->add_flag("--per-class", options.per_class, "Accuracy of each class and the confusion matrix");
  verb->add_flag("--json", options.json, "The result as JSON");
  verb->add_flag("--quiet", options.quiet, "No progress bar");
  verb->add_option("--batch", options.settings.batch, "Most images or crops of one pass")
      ->check(within::kBatch)
      ->capture_default_str();
  verb->add_option("--threads", options.threads, "Of each rank; default: the cores it may use")->check(within::kThreads);
  AddComputeFlags(*verb, flags->compute);
  verb->add_option("--limit", options.limit, "Only the first N images in source order")->check(within::kCount);
  CLI::Option* spec =
      verb->add_option("--spec", options.spec_path, "Specification of an evaluation (kind: evaluate) instead of the above");
  CLI::Option* coordinator = verb->add_option("--coordinator", options.coordinator, "Worker link (given by the coordinator)");
  CLI::Option* job = verb->add_option("--job", options.job, "Job id (given by the coordinator)");
  CLI::Option* attempt = verb->add_option("--attempt", options.attempt, "Attempt number (given by the coordinator)");
  coordinator->needs(spec)->needs(job)->needs(attempt);
  verb->footer(kFooter);
  verb->callback([flags, &exit_code] {
    if (const Status read = ReadFlags(*flags); !read) {
      fmt::print(stderr, "plateau-worker evaluate: {}\n", read.error().message);
      exit_code = ExitCode(read.error().code);
      return;
    }
    exit_code = RunEvaluate(flags->options);
  });
}

}  // namespace plateau
