// The init verb.
#include "worker/init_verb.h"

#include <cstdio>
#include <memory>

#include <CLI/CLI.hpp>

#include "common/job_spec.h"
#include "worker/flag_ranges.h"
#include "worker/nn/init.h"
#include "worker/weights_file.h"

namespace plateau {
namespace {

struct InitFlags {
  std::string network, out, scheme = "he", names = "canonical";
  double width = 1;
  int classes = 0, crop = 0, channels = 0;  // 0: the network's own
  uint64_t seed = 1;
};

Status RunInit(const InitFlags& flags) {
  const auto scheme = ParseInitScheme(flags.scheme, "--init");
  if (!scheme) return Fail(scheme.error());
  const auto style = ParseNameStyle(flags.names);
  if (!style) return Fail(style.error());
  NetworkOptions options = PaperOptions(flags.network);
  options.width = flags.width;
  if (flags.classes != 0) options.classes = flags.classes;
  if (flags.channels != 0) options.channels = flags.channels;
  const auto network = MakeNetwork(flags.network, options);
  if (!network) return Fail(network.error());
  PLATEAU_TRY(CheckNameStyle(*network, *style));
  const int crop = flags.crop != 0 ? flags.crop : network->input_side;
  const auto shapes = InferShapes(*network, crop, crop);
  if (!shapes) return Fail(shapes.error());

  const auto infos = ListParameters(*network, *shapes);
  std::vector<std::vector<float>> values(infos.size());
  std::vector<NamedTensor> tensors;
  int64_t total = 0;
  for (size_t p = 0; p < infos.size(); ++p) {
    values[p].resize(static_cast<size_t>(infos[p].CanonicalCount()));
    InitCanonical(*scheme, infos[p], static_cast<int>(p), flags.seed, values[p]);
    tensors.push_back({ParameterName(*network, infos[p].name, *style), FloatTensor(values[p], infos[p].shape)});
    total += infos[p].CanonicalCount();
  }
  PosixFileSystem files;
  PLATEAU_TRY(WriteSafetensorsFile(files, flags.out, tensors,
                                   {{"network", network->name},
                                    {"width", fmt::format("{}", flags.width)},
                                    {"classes", fmt::format("{}", network->classes)},
                                    {"crop", fmt::format("{}", crop)},
                                    {"init", InitSchemeText(*scheme)},
                                    {"seed", fmt::format("{}", flags.seed)}}));
  fmt::print("{}: {} width {} crop {}, {} classes: {} tensors, {} values, {} from seed {}\n", flags.out, network->name,
             flags.width, crop, network->classes, tensors.size(), total, InitSchemeText(*scheme), flags.seed);
  return {};
}

}  // namespace

void AddInitVerb(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<InitFlags>();
  CLI::App* verb = app.add_subcommand("init", "Write fresh float32 weights as safetensors");
  verb->footer(
      "Examples:\n"
      "  plateau-worker init vgg-a --out w.safetensors\n"
      "  plateau-worker init --network vgg-a --classes 7 --crop 56 --width 0.5 --seed 1 --init glorot --out w.safetensors");
  verb->add_option("network,--network", flags->network, "such as vgg-d; plateau summary --help lists them")->required();
  verb->add_option("--out", flags->out, "file to write")->required();
  verb->add_option("--classes", flags->classes, "number of classes; default: the network's own (lenet 10, else 1000)")
      ->check(within::kClasses);
  verb->add_option("--crop", flags->crop, "side of the input, fixes the shape of fc6; default: the network's own")
      ->check(within::kSide);
  verb->add_option("--channels", flags->channels, "of the input; default: the network's own (lenet 1, else 3)")
      ->check(within::kChannels);
  verb->add_option("--width", flags->width, "multiplies channels and fully connected units; 1 is the paper's")
      ->capture_default_str();
  verb->add_option("--seed", flags->seed, "same seed, same weights, on any machine")->capture_default_str();
  verb->add_option("--init", flags->scheme, "he, glorot or gaussian(SIGMA)")->capture_default_str();
  verb->add_option("--names", flags->names, "canonical (conv1_1.weight) or torchvision (features.0.weight)")->capture_default_str();
  verb->callback([flags, &exit_code] {
    const auto status = RunInit(*flags);
    if (status) return;
    fmt::print(stderr, "plateau-worker init: {}\n", status.error().message);
    exit_code = ExitCode(status.error().code);
  });
}

}  // namespace plateau
