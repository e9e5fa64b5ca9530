// Command-line verbs of data sets: options in, one call into dataset/, a report out.
#include "coordinator/cli/dataset_command.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>

#include "coordinator/cli/dataset_report.h"
#include "coordinator/cli/ingest_command.h"
#include "dataset/ingest.h"
#include "dataset/source_spec.h"
#include "dataset/synthesize.h"
#include "dataset/verify.h"

namespace plateau {
namespace {

// Prints an error and gives its exit code.
int Report(const Error& error) {
  std::fprintf(stderr, "error: %s\n", error.message.c_str());
  return ExitCode(error.code);
}

int Print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  return std::fflush(stdout) == 0 ? 0 : 1;
}

int DefaultJobs() { return static_cast<int>(std::max(1u, std::thread::hardware_concurrency())); }

struct IngestArguments {
  SourceSpec source;
  std::string max_rejected = "1%", resize = "none";
  IngestOptions options;
  RemoteIngestOptions remote;
  bool json = false;
};

int RunIngest(IngestArguments arguments, CliContext& context) {
  auto limit = ParseRejectLimit(arguments.max_rejected);
  if (!limit) return Report(limit.error());
  arguments.options.max_rejected = *limit;
  const auto resize = ParseResizeMode(arguments.resize);
  if (!resize) return Report(resize.error());
  arguments.options.resize = *resize;
  arguments.options.quiet = arguments.json;
  if (arguments.remote.wanted) {
    context.json = arguments.json;
    OrderIngest(context, {arguments.source, arguments.options}, arguments.remote);
    return context.exit_code;
  }
  const auto source = OpenSource(arguments.source);
  if (!source) return Report(source.error());
  PosixFileSystem files;
  const SystemClock clock;
  const auto report = Ingest(files, clock, *source, arguments.options);
  if (!report) return Report(report.error());
  return Print(arguments.json ? IngestJson(*report, arguments.options.out) : IngestText(*report, arguments.options.out));
}

void AddSourceOptions(CLI::App& verb, SourceSpec& source) {
  verb.add_option("--layout", source.layout, "ilsvrc: tars as they are distributed; folder: DIR/<class>/<image>; mnist: IDX files")
      ->check(CLI::IsMember({"ilsvrc", "folder", "mnist"}))
      ->capture_default_str();
  verb.add_option("--train", source.train, "ILSVRC2012_img_train.tar, or a folder of class folders");
  verb.add_option("--val", source.val, "ILSVRC2012_img_val.tar, or a folder: of class folders, or of images with --val-labels");
  verb.add_option(
      "--val-labels", source.val_labels,
      "val.txt (lines `name label`), ILSVRC2012_validation_ground_truth.txt, or LOC_val_solution.csv: told by the content");
  verb.add_option("--devkit-synsets", source.devkit_synsets,
                  "for the devkit's ground truth: synset ids in the devkit's own order, one a line");
  verb.add_option("--synsets", source.synsets, "synset_words.txt; its line is the class index (needed for ilsvrc)");
  verb.add_option("--images", source.images, "mnist: train-images-idx3-ubyte, plain or gzip");
  verb.add_option("--labels", source.labels, "mnist: train-labels-idx1-ubyte, plain or gzip");
  verb.add_option("--test-images", source.test_images, "mnist: t10k-images-idx3-ubyte, the validation images");
  verb.add_option("--test-labels", source.test_labels, "mnist: t10k-labels-idx1-ubyte");
  verb.add_option("--holdout", source.holdout, "mnist: validate on the last N of --images instead")->check(CLI::PositiveNumber);
}

constexpr const char* kIngestExamples =
    "Run again after a kill or a full disk, the same command goes on from the finished shards.\n"
    "The devkit numbers its synsets in an order of its own, which no other file tells; its data/meta.mat does:\n"
    "  python3 -c 'import scipy.io; meta = scipy.io.loadmat(\"meta.mat\", squeeze_me=True)[\"synsets\"]\n"
    "for entry in sorted(meta, key=lambda entry: entry[0]): print(entry[1])' > devkit.txt\n"
    "Examples:\n"
    "  plateau dataset ingest --train ILSVRC2012_img_train.tar --val ILSVRC2012_img_val.tar --val-labels val.txt \\\n"
    "      --synsets synset_words.txt --out /data/imagenet --jobs 16\n"
    "  plateau dataset ingest --coordinator --workers 4 --train ... (the same; the coordinator's workers share the shards)\n"
    "  plateau dataset ingest --train ILSVRC2012_img_train.tar --val ILSVRC2012_img_val.tar \\\n"
    "      --val-labels ILSVRC2012_validation_ground_truth.txt --devkit-synsets devkit.txt --synsets synset_words.txt \\\n"
    "      --resize 512cap --out /data/imagenet-512\n"
    "  plateau dataset ingest --layout folder --train CLS-LOC/train --val CLS-LOC/val --val-labels LOC_val_solution.csv \\\n"
    "      --synsets LOC_synset_mapping.txt --out /data/imagenet\n"
    "  plateau dataset ingest --layout folder --train flowers/train --val flowers/val --out /data/flowers\n"
    "  plateau dataset ingest --layout mnist --images train-images-idx3-ubyte.gz --labels train-labels-idx1-ubyte.gz \\\n"
    "      --test-images t10k-images-idx3-ubyte.gz --test-labels t10k-labels-idx1-ubyte.gz --out /data/mnist";

void AddIngest(CLI::App& dataset, CliContext& context) {
  auto arguments = std::make_shared<IngestArguments>();
  arguments->options.jobs = DefaultJobs();
  auto* verb = dataset.add_subcommand("ingest", "Turn images into a record store");
  AddSourceOptions(*verb, arguments->source);
  verb->add_option("--out", arguments->options.out, "the store's folder")->required();
  verb->add_option("--name", arguments->options.name, "the store's name (the folder's name)");
  verb->add_option("--resize", arguments->resize,
                   "store images whose shortest side is longer than 256 (512) pixels with that side, as JPEG of quality 90")
      ->check(CLI::IsMember({"none", "256", "512cap"}))
      ->capture_default_str();
  verb->add_option("--shards", arguments->options.shards, "shards of the training split (from number and size of the images)");
  verb->add_option("--jobs", arguments->options.jobs, "threads; the store does not depend on it")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  verb->add_option("--max-rejected", arguments->max_rejected, "bad images allowed in each split: a share (1%) or a number (25)")
      ->capture_default_str();
  verb->add_option("--seed", arguments->options.seed, "seed of the order of records in the store")->capture_default_str();
  verb->add_flag("--overwrite", arguments->options.overwrite, "replace a finished store in --out");
  verb->add_flag("--json", arguments->json, "print the result as one JSON object, and no progress");
  verb->footer(kIngestExamples);
  AddRemoteIngestOptions(*verb, context, arguments->remote);
  verb->callback([arguments, verb, &context] {
    if (arguments->remote.workers > 1 && verb->count("--jobs") == 0) arguments->options.jobs = 1;
    context.exit_code = RunIngest(*arguments, context);
  });
}

int RunInfo(const std::string& store, bool json) {
  PosixFileSystem files;
  const auto manifest = LoadManifest(files, store);
  if (!manifest) return Report(manifest.error());
  return Print(json ? InfoJson(*manifest, store) : InfoText(*manifest, store));
}

int RunVerify(const std::string& store, int jobs, bool json) {
  PosixFileSystem files;
  const SystemClock clock;
  const auto report = VerifyStore(files, clock, store, jobs, json);
  if (!report) return Report(report.error());
  const int printed = Print(json ? VerifyJson(*report, store) : VerifyText(*report, store));
  return report->problems.empty() ? printed : 1;
}

struct StoreArguments {
  std::string store;
  int jobs = DefaultJobs();
  bool json = false;
};

void AddInfo(CLI::App& dataset, int& exit_code) {
  auto arguments = std::make_shared<StoreArguments>();
  auto* verb = dataset.add_subcommand("info", "Show what a store holds");
  verb->add_option("store", arguments->store, "the store's folder")->required();
  verb->add_flag("--json", arguments->json, "print one JSON object");
  verb->footer("Example:\n  plateau dataset info /data/imagenet");
  verb->callback([arguments, &exit_code] { exit_code = RunInfo(arguments->store, arguments->json); });
}

void AddVerify(CLI::App& dataset, int& exit_code) {
  auto arguments = std::make_shared<StoreArguments>();
  auto* verb = dataset.add_subcommand("verify", "Check every file and record of a store; exit 1 when something is damaged");
  verb->add_option("store", arguments->store, "the store's folder")->required();
  verb->add_option("--jobs", arguments->jobs, "threads")->check(CLI::Range(1, 1024))->capture_default_str();
  verb->add_flag("--json", arguments->json, "print one JSON object with every damaged record, and no progress");
  verb->footer("Example:\n  plateau dataset verify /data/imagenet");
  verb->callback([arguments, &exit_code] { exit_code = RunVerify(arguments->store, arguments->jobs, arguments->json); });
}

struct SynthesizeArguments {
  SynthesizeOptions options;
  std::string out, format = "ilsvrc";
  int jobs = DefaultJobs();
  bool overwrite = false, json = false;
};

// Refuses to mix a new set into files that are there.
Status RefuseExisting(FileSystem& files, const SynthesizeArguments& arguments) {
  if (arguments.overwrite || !files.Exists(arguments.out)) return {};
  PLATEAU_ASSIGN(const auto names, files.List(arguments.out));
  if (names.empty()) return {};
  return Fail(ErrorCode::kConflict, "{}: is not empty (it holds {}); choose a new folder, or give --overwrite", arguments.out,
              names[0]);
}

int RunSynthesize(const SynthesizeArguments& arguments) {
  PosixFileSystem files;
  const auto source = OpenSynthetic(arguments.options);
  if (!source) return Report(source.error());
  if (arguments.format == "store") {
    const SystemClock clock;
    IngestOptions ingest;
    ingest.out = arguments.out;
    ingest.jobs = arguments.jobs;
    ingest.overwrite = arguments.overwrite;
    ingest.quiet = arguments.json;
    const auto report = Ingest(files, clock, *source, ingest);
    if (!report) return Report(report.error());
    return Print(arguments.json ? IngestJson(*report, arguments.out) : IngestText(*report, arguments.out));
  }
  if (const auto status = RefuseExisting(files, arguments); !status) return Report(status.error());
  const bool folders = arguments.format == "folder";
  const auto written = folders ? WriteFolders(files, *source, arguments.out) : WriteIlsvrc(files, *source, arguments.out);
  if (!written) return Report(written.error());
  return Print(arguments.json ? SynthesizeJson(arguments.options, arguments.out, arguments.format)
                              : SynthesizeText(arguments.options, arguments.out, arguments.format));
}

void AddSynthesize(CLI::App& dataset, int& exit_code) {
  auto arguments = std::make_shared<SynthesizeArguments>();
  auto* verb = dataset.add_subcommand("synthesize", "Make a small ILSVRC-shaped set of textured shapes that a network can learn");
  verb->add_option("--out", arguments->out, "folder of the tars, of the class folders, or the store")->required();
  verb->add_option("--classes", arguments->options.classes, "combinations of shape and texture")->capture_default_str();
  verb->add_option("--train", arguments->options.train, "training images")->capture_default_str();
  verb->add_option("--val", arguments->options.val, "validation images")->capture_default_str();
  verb->add_option("--size", arguments->options.side, "shortest side, pixels")->capture_default_str();
  verb->add_option("--seed", arguments->options.seed, "the same seed gives the same bytes")->capture_default_str();
  verb->add_option("--format", arguments->format, "ilsvrc: tars and label files; folder: class folders; store: a record store")
      ->check(CLI::IsMember({"ilsvrc", "folder", "store"}))
      ->capture_default_str();
  verb->add_option("--jobs", arguments->jobs, "store: threads")->check(CLI::Range(1, 1024))->capture_default_str();
  verb->add_flag("--overwrite", arguments->overwrite, "write into a folder that holds files already");
  verb->add_flag("--json", arguments->json, "print one JSON object");
  verb->footer(
      "Examples:\n"
      "  plateau dataset synthesize --out shapes --classes 4 --train 400 --val 80 --size 64\n"
      "  plateau dataset ingest --train shapes/train.tar --val shapes/val.tar --val-labels shapes/val.txt \\\n"
      "      --synsets shapes/synset_words.txt --out shapes-store");
  verb->callback([arguments, &exit_code] { exit_code = RunSynthesize(*arguments); });
}

}  // namespace

void AddDatasetCommand(CLI::App& app, CliContext& context) {
  int& exit_code = context.exit_code;
  auto* dataset = app.add_subcommand("dataset", "Make, look at and check record stores");
  dataset->require_subcommand(1);
  AddIngest(*dataset, context);
  AddIngestVerbs(*dataset, context);
  AddInfo(*dataset, exit_code);
  AddVerify(*dataset, exit_code);
  AddSynthesize(*dataset, exit_code);
}

}  // namespace plateau
