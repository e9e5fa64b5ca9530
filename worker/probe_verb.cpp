// The probe verb: one forward and backward pass, everything it computes written out.
#include "worker/probe_verb.h"

#include <omp.h>

#include <cstdio>
#include <cstring>
#include <memory>

#include <CLI/CLI.hpp>

#include "common/random.h"
#include "worker/compute_flags.h"
#include "worker/flag_ranges.h"
#include "worker/nn/plan.h"
#include "worker/weights_file.h"

namespace plateau {
namespace {

struct ProbeFlags {
  std::string network, weights, input, out, algorithm = "auto", names = "canonical";
  double dropout = 0;
  uint64_t seed = 1;
  ComputeFlags compute;
  int threads = 0;
  int make_input = 0, classes = 1000, crop = 224, channels = 3;
};

struct ProbeInput {
  SafetensorsFile file;
  std::span<const float> images;
  int batch = 0, channels = 0, side = 0;
  std::vector<int32_t> labels;
};

Result<ConvAlgorithm> ParseAlgorithm(const std::string& text) {
  if (text == "auto" || text == "train") return ConvAlgorithm::kAuto;
  if (text == "direct") return ConvAlgorithm::kDirect;
  if (text == "winograd") return ConvAlgorithm::kWinograd;
  return Fail(ErrorCode::kInvalidInput, "--algorithm {}: not auto (also called train), direct or winograd", text);
}

// Standard normal images and uniform labels.
Status MakeInput(const ProbeFlags& flags) {
  if (flags.classes < 1 || flags.crop < 1 || flags.channels < 1)
    return Fail(ErrorCode::kInvalidInput, "--classes, --crop and --channels must be at least 1");
  std::vector<float> images(static_cast<size_t>(flags.make_input) * flags.channels * flags.crop * flags.crop);
  std::vector<int64_t> labels(static_cast<size_t>(flags.make_input));
  RandomStream stream(flags.seed, RandomPurpose::kSynthetic, 0, 0);
  for (auto& label : labels) label = stream.NextBelow(static_cast<uint32_t>(flags.classes));
  for (auto& value : images) value = static_cast<float>(stream.NextNormal());
  const TensorView label_view{
      TensorType::kI64, {flags.make_input}, {reinterpret_cast<const char*>(labels.data()), labels.size() * sizeof(int64_t)}};
  const std::vector<NamedTensor> tensors = {{"images", FloatTensor(images, {flags.make_input, flags.channels, flags.crop, flags.crop})},
                                            {"labels", label_view}};
  PosixFileSystem files;
  PLATEAU_TRY(WriteSafetensorsFile(files, flags.out, tensors, {{"seed", fmt::format("{}", flags.seed)}}));
  fmt::print("{}: {} images of {}x{}, labels below {}\n", flags.out, flags.make_input, flags.crop, flags.crop, flags.classes);
  return {};
}

Result<ProbeInput> ReadInput(const std::string& path) {
  PosixFileSystem files;
  auto file = SafetensorsFile::Load(files, path);
  if (!file) return Fail(file.error());
  const auto images = file->tensors().find("images"), labels = file->tensors().find("labels"), none = file->tensors().end();
  if (images == none || labels == none) return Fail(ErrorCode::kInvalidInput, "{}: must hold tensors 'images' and 'labels'", path);
  const auto& shape = images->second.shape;
  if (images->second.type != TensorType::kF32 || shape.size() != 4 || shape[0] < 1 || shape[2] != shape[3]) {
    return Fail(ErrorCode::kInvalidInput, "{}: 'images' must be float32 [N,C,S,S] with N at least 1", path);
  }
  if (labels->second.type != TensorType::kI64 || labels->second.shape != std::vector<int64_t>{shape[0]}) {
    return Fail(ErrorCode::kInvalidInput, "{}: 'labels' must be int64 [{}]", path, shape[0]);
  }
  ProbeInput input{.batch = static_cast<int>(shape[0]), .channels = static_cast<int>(shape[1]), .side = static_cast<int>(shape[2])};
  for (int n = 0; n < input.batch; ++n) {
    int64_t label = 0;
    std::memcpy(&label, labels->second.bytes.data() + n * sizeof(label), sizeof(label));
    input.labels.push_back(static_cast<int32_t>(label));
  }
  input.file = std::move(*file);
  input.images = *input.file.Floats("images", input.file.tensors().at("images").shape);
  return input;
}

Status WriteOutput(const ProbeFlags& flags, NameStyle style, Engine& engine, const Plan& plan, double mean_loss) {
  ParameterStore& store = engine.parameters();
  store.FetchGradients();
  const auto loss = static_cast<float>(mean_loss);
  std::vector<NamedTensor> tensors = {{"logits", FloatTensor(plan.logits(), {plan.options().batch, engine.network().classes})},
                                      {"loss", FloatTensor({&loss, 1}, {1})}};
  store.FetchGradients();
  std::vector<std::vector<float>> gradients(static_cast<size_t>(store.count()));
  for (int p = 0; p < store.count(); ++p) {
    if (!store.info(p).learned()) continue;
    gradients[p].resize(static_cast<size_t>(store.info(p).CanonicalCount()));
    store.ToCanonical(p, store.gradient(p), gradients[p]);
    tensors.push_back(
        {"grad." + ParameterName(engine.network(), store.info(p).name, style), FloatTensor(gradients[p], store.info(p).shape)});
  }
  PosixFileSystem files;
  return WriteSafetensorsFile(files, flags.out, tensors, {{"engine", engine.description()}});
}

Status RunProbe(const ProbeFlags& flags) {
  if (flags.make_input > 0) return MakeInput(flags);
  if (flags.network.empty() || flags.weights.empty() || flags.input.empty()) {
    return Fail(ErrorCode::kInvalidInput, "--network, --weights and --input are needed (or --make-input N to make an input file)");
  }
  const auto style = ParseNameStyle(flags.names);
  if (!style) return Fail(style.error());
  const auto algorithm = ParseAlgorithm(flags.algorithm);
  if (!algorithm) return Fail(algorithm.error());
  const auto input = ReadInput(flags.input);
  if (!input) return Fail(input.error());
  PosixFileSystem files;
  const auto weights = SafetensorsFile::Load(files, flags.weights);
  if (!weights) return Fail(weights.error());
  auto network = NetworkOfWeights(flags.network, *weights, *style, flags.dropout);
  if (!network) return Fail(network.error());
  if (network->channels != input->channels)
    return Fail(ErrorCode::kInvalidInput, "{}: images have {} channels, the weights in {} are for {}", flags.input, input->channels,
                flags.weights, network->channels);
  PLATEAU_ASSIGN(const Compute compute, ChooseCompute(flags.compute));
  PLATEAU_TRY(CheckAlgorithm(*algorithm == ConvAlgorithm::kAuto ? "auto" : flags.algorithm, compute));
  const auto engine = CreateEngine(compute.device, *network,
                                   {.threads = flags.threads > 0 ? flags.threads : omp_get_num_procs(),
                                    .seed = flags.seed,
                                    .crop = input->side,
                                    .convolution = *algorithm,
                                    .precision = compute.precision});
  if (!engine) return Fail(engine.error());
  PLATEAU_TRY(LoadWeights(*network, *weights, *style, (*engine)->parameters()));
  const auto plan = (*engine)->Compile({.batch = input->batch, .height = input->side, .width = input->side, .training = true});
  if (!plan) return Fail(plan.error());

  const std::vector<float> ones(static_cast<size_t>(input->batch), 1.0F);
  std::vector<uint64_t> index(static_cast<size_t>(input->batch));
  for (size_t n = 0; n < index.size(); ++n) index[n] = n;
  const LaneBatch lane{input->images, input->labels, ones, index};
  (*plan)->Forward(lane, 0);
  const LossSums loss = (*plan)->Loss(lane, input->batch);
  for (int layer = static_cast<int>(network->layers.size()) - 1; layer >= 0; --layer) {
    (*plan)->BackwardData(layer);
    (*plan)->BackwardWeights(layer);
  }
  PLATEAU_TRY(WriteOutput(flags, *style, **engine, **plan, loss.loss / input->batch));
  fmt::print("{}: {} images through {} on {}: mean loss {:.6f}, {} right\n", flags.out, input->batch, network->name,
             (*engine)->description(), loss.loss / input->batch, loss.top1_correct);
  return {};
}

}  // namespace

void AddProbeVerb(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<ProbeFlags>();
  CLI::App* verb = app.add_subcommand("probe", "Write logits, loss and every gradient of given weights on given input");
  verb->footer(
      "Input: \"images\" [N,C,H,W] float32, already normalised, and \"labels\" [N] int64.\n"
      "Output: \"logits\" [N,classes], \"loss\" [1] (mean over N) and \"grad.NAME\" of every parameter.\n"
      "Examples:\n"
      "  plateau-worker probe --make-input 4 --crop 224 --out in.safetensors\n"
      "  plateau-worker probe --network vgg-a --weights w.safetensors --input in.safetensors --out out.safetensors --algorithm "
      "direct");
  verb->add_option("network,--network", flags->network, "such as vgg-d; widths and classes come from the weights");
  verb->add_option("--weights", flags->weights, "safetensors file");
  verb->add_option("--input", flags->input, "safetensors file");
  verb->add_option("--out", flags->out, "file to write")->required();
  verb->add_option("--dropout", flags->dropout, "rate of VGG, AlexNet and ZFNet; other networks scale theirs by it, 0.5 leaves them")->capture_default_str();
  verb->add_option("--seed", flags->seed, "of the dropout masks, or of --make-input")->capture_default_str();
  verb->add_option("--algorithm", flags->algorithm, "of the CPU: auto (as in training; also called train), direct, winograd")
      ->capture_default_str();
  verb->add_option("--names", flags->names, "canonical or torchvision: names in --weights and of the gradients")
      ->capture_default_str();
  verb->add_option("--threads", flags->threads, "default: all cores")->check(within::kThreads);
  AddComputeFlags(*verb, flags->compute);
  verb->add_option("--make-input", flags->make_input, "only write an input file of this many random images to --out")
      ->check(within::kBatch);
  verb->add_option("--classes", flags->classes, "of --make-input")->check(within::kClasses)->capture_default_str();
  verb->add_option("--crop", flags->crop, "of --make-input")->check(within::kSide)->capture_default_str();
  verb->add_option("--channels", flags->channels, "of --make-input")->check(within::kChannels)->capture_default_str();
  verb->callback([flags, &exit_code] {
    Status status;
    try {
      status = RunProbe(*flags);
    } catch (const Failure& failure) {
      status = Fail(Error{failure.code(), failure.what()});
    }
    if (status) return;
    fmt::print(stderr, "plateau-worker probe: {}\n", status.error().message);
    exit_code = ExitCode(status.error().code);
  });
}

}  // namespace plateau
