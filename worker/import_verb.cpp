// The import verb.
#include "worker/import_verb.h"

#include <omp.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <set>
#include <sstream>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "common/job_spec.h"
#include "worker/class_words.h"
#include "worker/flag_ranges.h"
#include "worker/nn/canonical_parameters.h"
#include "worker/train/checkpoint.h"
#include "worker/train/run_folder.h"
#include "worker/weights_file.h"

namespace plateau {
namespace {

struct ImportFlags {
  std::string file, network, out, names = "torchvision", synsets;
  double width = 1;
  int crop = 224, scale = 256;
  // torchvision's, of ImageNet on the 0..255 scale.
  std::vector<float> mean{123.675F, 116.28F, 103.53F}, standard_deviation{58.395F, 57.12F, 57.375F};
  std::set<std::string> given;  // options that stand on the command line
};

// Numbers with commas between them, all of them finite; empty when `text` is anything else.
std::vector<float> ReadNumbers(const std::string& text) {
  std::vector<float> numbers;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    char* end = nullptr;
    const float number = std::strtof(part.c_str(), &end);
    if (part.empty() || *end != '\0' || !std::isfinite(number)) return {};
    numbers.push_back(number);
  }
  return numbers;
}

// What `plateau export` wrote about pixels and classes holds where the command line says nothing else.
Status TakeMetadata(const SafetensorsFile& file, ImportFlags& flags, std::vector<ClassInfo>& classes) {
  const auto& metadata = file.metadata();
  if (!metadata.contains("channel_order") || !metadata.contains("standard_deviation")) return {};  // another program's file
  const auto numbers = [&](const char* key, const char* option, size_t count) -> Result<std::vector<float>> {
    if (flags.given.contains(option) || !metadata.contains(key)) return std::vector<float>{};
    auto read = ReadNumbers(metadata.at(key));
    if (read.size() == count) return read;
    return Fail(ErrorCode::kInvalidInput, "{}: metadata {} is \"{}\", not {} number(s); give {}", file.path(), key,
                metadata.at(key), count, option);
  };
  PLATEAU_ASSIGN(const auto mean, numbers("mean", "--mean", 3));
  PLATEAU_ASSIGN(const auto deviation, numbers("standard_deviation", "--standard-deviation", 3));
  PLATEAU_ASSIGN(const auto crop, numbers("crop", "--crop", 1));
  PLATEAU_ASSIGN(const auto scale, numbers("scale", "--scale", 1));
  PLATEAU_ASSIGN(const auto width, numbers("width", "--width", 1));
  if (!mean.empty()) flags.mean = mean;
  if (!deviation.empty()) flags.standard_deviation = deviation;
  if (!crop.empty()) flags.crop = static_cast<int>(crop[0]);
  if (!scale.empty()) flags.scale = static_cast<int>(scale[0]);
  if (!width.empty()) flags.width = width[0];
  if (!metadata.contains("classes")) return {};
  const auto list = nlohmann::json::parse(metadata.at("classes"), nullptr, false);
  for (const auto& one : list.is_array() ? list : nlohmann::json::array())
    if (one.is_object() && one.contains("synset") && one["synset"].is_string())
      classes.push_back({one["synset"], one.contains("words") && one["words"].is_string() ? one["words"].get<std::string>() : ""});
  return {};
}

// Other tensors than the network's: the weights are another network's. torchvision counts batches beside its batch norms.
Status CheckNothingElse(const SafetensorsFile& file, const Network& network, const std::vector<ParameterInfo>& infos,
                        NameStyle style) {
  std::set<std::string> known;
  for (const ParameterInfo& info : infos) known.insert(ParameterName(network, info.name, style));
  for (const auto& [name, tensor] : file.tensors())
    if (!known.contains(name) && !name.ends_with(".num_batches_tracked"))
      return Fail(ErrorCode::kInvalidInput, "{}: tensor {} is none of {}: the weights are another network's; give its --network",
                  file.path(), name, network.name);
  return {};
}

Result<RunIdentity> MakeIdentity(FileSystem& files, const ImportFlags& flags, int classes, std::vector<ClassInfo> named) {
  RunIdentity identity;
  identity.job = "import";
  identity.metric = "val_top1_error";
  identity.network = flags.network;
  identity.width = flags.width;
  identity.preprocessing.crop = flags.crop;
  identity.preprocessing.scale_low = identity.preprocessing.scale_high = identity.validation_scale = flags.scale;
  for (size_t c = 0; c < 3; ++c) {
    identity.preprocessing.mean[c] = flags.mean[c];
    identity.preprocessing.standard_deviation[c] = flags.standard_deviation[c];
  }
  if (static_cast<int>(named.size()) == classes) identity.classes = std::move(named);
  for (int c = static_cast<int>(identity.classes.size()); c < classes; ++c)
    identity.classes.push_back({fmt::format("{}", c), fmt::format("class {}", c)});
  if (!flags.synsets.empty()) {
    PLATEAU_ASSIGN(const auto known, ReadClassWords(files, flags.synsets));
    PLATEAU_TRY(NameClasses(known, flags.synsets, identity.classes));
  }
  JobSpec spec;
  spec.name = "import";
  spec.model = {.network = flags.network, .width = flags.width};
  spec.data.crop = flags.crop;
  identity.spec_json = JobSpecToJson(spec).dump();
  identity.global_batch = spec.training.global_batch;
  identity.store_name = flags.file;
  identity.fingerprint.device = "import";
  return identity;
}

Result<CanonicalParameters> ReadParameters(const SafetensorsFile& file, const ImportFlags& flags, NameStyle style,
                                           Network& network) {
  PLATEAU_ASSIGN(const Network shaped, NetworkOfWeights(flags.network, file, style, 0.5));
  PLATEAU_ASSIGN(network,
                 MakeNetwork(flags.network, {.width = flags.width, .classes = shaped.classes, .channels = shaped.channels}));
  PLATEAU_ASSIGN(const auto shapes, InferShapes(network, flags.crop, flags.crop));
  CanonicalParameters parameters(ListParameters(network, shapes));
  PLATEAU_TRY(LoadWeights(network, file, style, parameters));
  PLATEAU_TRY(CheckNothingElse(file, network, ListParameters(network, shapes), style));
  for (int p = 0; p < parameters.count(); ++p) {
    if (parameters.info(p).role != ParameterRole::kRunningVariance) continue;
    for (const float variance : parameters.weight(p))
      if (variance < 0)
        return Fail(ErrorCode::kInvalidInput, "{}: tensor {} holds a variance of {}; the file is damaged, export it again",
                    file.path(), ParameterName(network, parameters.info(p).name, style), variance);
  }
  return parameters;
}

Status CheckFlags(const ImportFlags& flags) {
  if (flags.mean.size() != 3 || flags.standard_deviation.size() != 3)
    return Fail(ErrorCode::kInvalidInput, "--mean and --standard-deviation: give three numbers each, of R, G and B");
  for (const float mean : flags.mean)
    if (!std::isfinite(mean)) return Fail(ErrorCode::kInvalidInput, "--mean: {} is not a number that pixels can lose", mean);
  for (const float deviation : flags.standard_deviation)
    if (!(deviation > 0) || !std::isfinite(deviation))
      return Fail(ErrorCode::kInvalidInput, "--standard-deviation: {} is not above 0; pixels are divided by it", deviation);
  if (flags.scale < flags.crop)
    return Fail(ErrorCode::kInvalidInput, "--scale {}: is smaller than the crop {}; make it at least that", flags.scale,
                flags.crop);
  return {};
}

Status RunImport(ImportFlags flags) {
  PLATEAU_ASSIGN(const NameStyle style, ParseNameStyle(flags.names));
  PosixFileSystem files;
  if (files.Exists(flags.out))
    return Fail(ErrorCode::kConflict, "--out {}: is there already; give another folder, or remove it", flags.out);
  Network network;
  PLATEAU_ASSIGN(const auto file, SafetensorsFile::Load(files, flags.file));
  std::vector<ClassInfo> classes;
  PLATEAU_TRY(TakeMetadata(file, flags, classes));
  PLATEAU_TRY(CheckFlags(flags));
  PLATEAU_ASSIGN(CanonicalParameters parameters, ReadParameters(file, flags, style, network));
  PLATEAU_ASSIGN(const RunIdentity identity, MakeIdentity(files, flags, network.classes, std::move(classes)));
  ParameterSnapshot snapshot(parameters, omp_get_num_procs());
  snapshot.Take();
  CheckpointState state{.identity = identity, .train = {}};
  state.train.lr = InitialLrState({});
  const std::string attempt = "attempt-1";
  PLATEAU_TRY(files.MakeDirectories(flags.out + "/" + attempt));
  PLATEAU_ASSIGN(const WrittenCheckpoint written, WriteCheckpoint(files, flags.out + "/" + attempt, snapshot, state));
  PLATEAU_TRY(PublishCheckpoint(
      files, flags.out, {.path = attempt + "/" + CheckpointFolderName(0), .checksum = written.manifest_checksum, .lineage = 1}));
  fmt::print("{}: {} with {} classes, crop {}, scale {}; use it as CHECKPOINT, or as model.init_from.checkpoint\n", flags.out,
             network.name, network.classes, flags.crop, flags.scale);
  return {};
}

}  // namespace

void AddImportVerb(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<ImportFlags>();
  CLI::App* verb = app.add_subcommand("import", "Make a checkpoint of weights from another program");
  verb->footer(
      "Float32, float64, float16 and bfloat16 tensors are read. The folder can be evaluated, predicted with, exported, and started "
      "from\n"
      "(model.init_from: {checkpoint: OUT}). Pixels and classes are those that\n"
      "plateau export wrote into the file, else torchvision's; options go before both.\n"
      "Examples:\n"
      "  plateau import vgg16.safetensors --network vgg-d --synsets synset_words.txt --out models/vgg16\n"
      "  plateau import own.safetensors --network vgg-a --names canonical --crop 56 --scale 64 --width 0.5 --out models/own");
  verb->add_option("file", flags->file, "safetensors file")->required();
  verb->add_option("--network", flags->network, "Such as vgg-d; plateau summary --help lists them")->required();
  verb->add_option("--out", flags->out, "Folder to make")->required();
  verb->add_option("--names", flags->names, "torchvision (features.0.weight) or canonical (conv1_1.weight)")->capture_default_str();
  verb->add_option("--width", flags->width, "Of the network")->capture_default_str();
  verb->add_option("--crop", flags->crop, "Side of the input that the weights are for")
      ->check(within::kSide)
      ->capture_default_str();
  verb->add_option("--scale", flags->scale, "Shortest side of a tested image")->check(within::kSide)->capture_default_str();
  verb->add_option("--mean", flags->mean, "R,G,B on the 0..255 scale that pixels lost")->delimiter(',')->capture_default_str();
  verb->add_option("--standard-deviation", flags->standard_deviation, "R,G,B that they were divided by")
      ->delimiter(',')
      ->capture_default_str();
  verb->add_option("--synsets", flags->synsets, "Names of the classes, lines as \"n01440764 tench, Tinca tinca\", in their order");
  verb->callback([flags, verb, &exit_code] {
    for (const CLI::Option* option : verb->get_options())
      if (option->count() > 0) flags->given.insert(option->get_name());
    const auto status = RunImport(*flags);
    if (status) return;
    fmt::print(stderr, "plateau import: {}\n", status.error().message);
    exit_code = ExitCode(status.error().code);
  });
}

}  // namespace plateau
