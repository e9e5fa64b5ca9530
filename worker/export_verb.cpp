// The export verb.
#include "worker/export_verb.h"

#include <cstdio>
#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "worker/model/torchvision_names.h"
#include "worker/train/trained_model.h"
#include "worker/weights_file.h"

namespace plateau {
namespace {

struct ExportFlags {
  std::string checkpoint, out, format = "safetensors", names = "torchvision";
};

std::map<std::string, std::string> Metadata(const TrainedModel& model, NameStyle style) {
  const Preprocessing& p = model.identity.preprocessing;
  const auto triple = [](const std::array<float, 3>& v, float over) {
    return fmt::format("{},{},{}", v[0] / over, v[1] / over, v[2] / over);
  };
  nlohmann::json classes = nlohmann::json::array();
  for (const ClassInfo& one : model.identity.classes) classes.push_back({{"synset", one.synset}, {"words", one.words}});
  std::map<std::string, std::string> metadata = {{"format", "pt"},
                                                 {"network", model.network.name},
                                                 {"width", fmt::format("{}", model.network.width)},
                                                 {"step", fmt::format("{}", model.step)},
                                                 {"channel_order", "RGB"},
                                                 {"mean", triple(p.mean, 1)},
                                                 {"standard_deviation", triple(p.standard_deviation, 1)},
                                                 {"mean_0_1", triple(p.mean, 255)},
                                                 {"standard_deviation_0_1", triple(p.standard_deviation, 255)},
                                                 {"crop", fmt::format("{}", p.crop)},
                                                 {"scale", fmt::format("{}", model.identity.validation_scale)},
                                                 {"classes", classes.dump()}};
  if (style == NameStyle::kTorchvision) metadata["torchvision"] = *TorchvisionModel(model.network.name);
  return metadata;
}

Status RunExport(const ExportFlags& flags) {
  if (flags.format != "safetensors") return Fail(ErrorCode::kInvalidInput, "--format {}: only safetensors is written", flags.format);
  PLATEAU_ASSIGN(const NameStyle style, ParseNameStyle(flags.names));
  PosixFileSystem files;
  PLATEAU_ASSIGN(const TrainedModel model, OpenTrainedModel(files, flags.checkpoint));
  if (const Status known = CheckNameStyle(model.network, style); !known)
    return Fail(known.error().code, "{}: --names canonical", known.error().message);
  const int crop = model.identity.preprocessing.crop;
  PLATEAU_ASSIGN(const auto shapes, InferShapes(model.network, crop, crop));
  std::vector<NamedTensor> tensors;
  const int64_t batches = model.step;
  for (const ParameterInfo& info : ListParameters(model.network, shapes)) {
    tensors.push_back({ParameterName(model.network, info.name, style), model.weights.tensors().at(info.name)});
    if (style != NameStyle::kTorchvision || info.role != ParameterRole::kRunningVariance) continue;
    const std::string layer = tensors.back().name.substr(0, tensors.back().name.rfind('.'));
    tensors.push_back({layer + ".num_batches_tracked", {TensorType::kI64, {}, {reinterpret_cast<const char*>(&batches), sizeof batches}}});
  }
  PLATEAU_TRY(WriteSafetensorsFile(files, flags.out, tensors, Metadata(model, style)));
  fmt::print("{}: {} of {} at step {}, {} tensors under {} names\n", flags.out, model.network.name, model.folder, model.step,
             tensors.size(), flags.names);
  return {};
}

}  // namespace

void AddExportVerb(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<ExportFlags>();
  CLI::App* verb = app.add_subcommand("export", "Write a checkpoint's weights as a file for other programs");
  verb->footer(
      "The metadata says how pixels become input: (pixel - mean) / standard_deviation on the 0..255 scale, or the _0_1 ones for pixels\n"
      "divided by 255, as torchvision has them.\n"
      "Examples:\n"
      "  plateau export runs/vgg-d-1 --out vgg16.safetensors\n"
      "  python3: torchvision.models.vgg16().load_state_dict(safetensors.torch.load_file('vgg16.safetensors'))\n"
      "  plateau export runs/googlenet-1/attempt-1/step-000001000 --names canonical --out googlenet.safetensors");
  verb->add_option("checkpoint", flags->checkpoint, "Folder of a checkpoint or of a run")->required();
  verb->add_option("--format", flags->format, "safetensors")->capture_default_str();
  verb->add_option("--names", flags->names, "torchvision (features.0.weight) or canonical (conv1_1.weight)")->capture_default_str();
  verb->add_option("--out", flags->out, "File to write")->required();
  verb->callback([flags, &exit_code] {
    const auto status = RunExport(*flags);
    if (status) return;
    fmt::print(stderr, "plateau export: {}\n", status.error().message);
    exit_code = ExitCode(status.error().code);
  });
}

}  // namespace plateau
