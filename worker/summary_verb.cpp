// The summary verb.
#include "worker/summary_verb.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "common/byte_size.h"
#include "common/text.h"
#include "worker/flag_ranges.h"
#include "worker/summary_print.h"

namespace plateau {
namespace {

constexpr int kLargestSide = 65536;

struct SummaryFlags {
  std::string network, input;
  std::vector<std::string> compare;
  double width = 1;
  int classes = 0, batch = 1;
  std::string device = "cpu", precision = "auto";
  std::string memory;
  bool memory_given = false, ranks_given = false;
  int ranks = 1, sharers = 1;
  bool json = false;
};

struct InputSize {
  int channels = 3, height = 224, width = 224;
};

Result<InputSize> ParseInput(const std::string& text) {
  const auto parts = SplitText(text, 'x');
  InputSize size;
  int* fields[] = {&size.channels, &size.height, &size.width};
  bool good = parts.size() == 3;
  for (size_t i = 0; good && i < 3; ++i) {
    const auto [end, error] = std::from_chars(parts[i].data(), parts[i].data() + parts[i].size(), *fields[i]);
    good = error == std::errc() && end == parts[i].data() + parts[i].size() && *fields[i] > 0 && *fields[i] <= kLargestSide;
  }
  if (!good) return Fail(ErrorCode::kInvalidInput, "--input {}: not channels x height x width, such as 3x224x224", text);
  return size;
}

// Which batches fit `device_bytes`, by the engine's own rule.
void PredictBatches(const NetworkSummary& summary, PlanOptions plan, DevicePrediction& device) {
  const auto largest = [&](int rows) {
    plan.batch = rows;
    return LargestBatch(summary.network, summary.height, plan, device.precision, device.planning_bytes);
  };
  const bool nccl = device.ranks > 1 && device.sharers == 1;
  device.planning_bytes = PlanningBytes(device.device_bytes / static_cast<uint64_t>(device.sharers), nccl);
  device.largest_batch = largest(1);
  device.lane_rows = largest(summary.batch);
  if (device.lane_rows > 0) return;
  device.most_rows = MostRows(summary.network, summary.height, plan, device.precision, device.planning_bytes);
}

// What the CUDA engine would take on a device; needs none.
Result<DevicePrediction> Predict(const NetworkSummary& summary, const SummaryFlags& flags) {
  if (summary.height != summary.width)
    return Fail(ErrorCode::kInvalidInput, "--input {}: training crops are square; give equal height and width for --device cuda", flags.input);
  DevicePrediction device{.ranks = std::max(flags.ranks, flags.sharers), .sharers = flags.sharers};
  PLATEAU_ASSIGN(const auto precision, ParsePrecision(flags.precision, "--precision"));
  device.precision = precision.value_or(Precision::kBf16);
  const PlanOptions plan{.batch = flags.batch, .height = summary.height, .width = summary.width, .training = true};
  const auto memory = PredictMemory(summary.network, summary.height, plan, device.precision, flags.batch);
  if (!memory && memory.error().code == ErrorCode::kUnavailable)
    return Fail(ErrorCode::kInvalidInput, "--batch {}: {}", flags.batch, memory.error().message);
  PLATEAU_ASSIGN(device.memory, memory);
  if (flags.memory.empty()) return device;
  PLATEAU_ASSIGN(device.device_bytes, ParseByteSize(flags.memory, "GiB", "--memory"));
  PredictBatches(summary, plan, device);
  return device;
}

Result<NetworkSummary> Summarise(const std::string& name, const SummaryFlags& flags) {
  NetworkOptions options = PaperOptions(name);
  options.width = flags.width;
  if (flags.classes != 0) options.classes = flags.classes;
  std::optional<InputSize> size;
  if (!flags.input.empty()) {
    PLATEAU_ASSIGN(size, ParseInput(flags.input));
    options.channels = size->channels;
  }
  NetworkSummary summary{.batch = flags.batch};
  PLATEAU_ASSIGN(summary.network, MakeNetwork(name, options));
  summary.height = size ? size->height : summary.network.input_side;
  summary.width = size ? size->width : summary.network.input_side;
  PLATEAU_ASSIGN(summary.costs, CountCosts(summary.network, summary.height, summary.width));
  if (flags.device == "cuda") {
    PLATEAU_ASSIGN(summary.device, Predict(summary, flags));
  }
  return summary;
}

Status CheckDevice(const SummaryFlags& flags) {
  if (flags.device != "cpu" && flags.device != "cuda")
    return Fail(ErrorCode::kInvalidInput, "--device {}: not cpu or cuda; for cuda the memory of training is predicted", flags.device);
  if (flags.device == "cuda" && !flags.compare.empty())
    return Fail(ErrorCode::kInvalidInput, "--device cuda predicts the memory of one network; leave --compare out");
  const bool shared = flags.ranks > 1 || flags.sharers > 1;
  if (flags.device == "cpu" && (flags.precision != "auto" || flags.memory_given || shared))
    return Fail(ErrorCode::kInvalidInput, "--precision, --memory, --ranks and --sharers belong to --device cuda");
  if (flags.memory_given && flags.memory.empty())
    return Fail(ErrorCode::kInvalidInput, "--memory: is empty; give what is free on the device, such as --memory 80GiB");
  if (flags.ranks_given && flags.sharers > flags.ranks)
    return Fail(ErrorCode::kInvalidInput, "--sharers {}: a job of --ranks {} has no more than that on one device; give at most {}",
                flags.sharers, flags.ranks, flags.ranks);
  if (shared && flags.memory.empty())
    return Fail(ErrorCode::kInvalidInput,
                "--ranks and --sharers say who shares a memory: give its size with --memory, such as --memory 80GiB");
  return {};
}

Status RunSummary(const SummaryFlags& flags) {
  PLATEAU_TRY(CheckDevice(flags));
  if (flags.network.empty() && flags.compare.empty())
    return Fail(ErrorCode::kInvalidInput, "name a network, or several with --compare; known are {}", JoinNames(NetworkNames()));
  std::vector<std::string> names = flags.compare;
  if (!flags.network.empty()) names.insert(names.begin(), flags.network);
  std::vector<NetworkSummary> summaries;
  for (const std::string& name : names) {
    PLATEAU_ASSIGN(summaries.emplace_back(), Summarise(name, flags));
  }
  if (flags.json) {
    nlohmann::ordered_json document = nlohmann::ordered_json::array();
    for (const NetworkSummary& summary : summaries) document.push_back(SummaryJson(summary));
    fmt::print("{}\n", (summaries.size() == 1 ? document[0] : document).dump(2));
  } else {
    fmt::print("{}", summaries.size() == 1 ? SummaryText(summaries[0]) : ComparisonText(summaries));
  }
  return {};
}

}  // namespace

void AddSummaryVerb(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<SummaryFlags>();
  CLI::App* verb = app.add_subcommand("summary", "Print a network's layers: output shape, memory, parameters, multiply-adds, field");
  verb->footer(
      "Examples:\n"
      "  plateau summary vgg-d\n"
      "  plateau summary alexnet --input 3x224x224 --json\n"
      "  plateau summary vgg-a --width 0.5 --input 3x56x56 --classes 20 --batch 64\n"
      "  plateau summary vgg-d --device cuda --batch 256 --precision bf16 --memory 80GiB\n"
      "  plateau summary vgg-d --device cuda --batch 128 --memory 141GB --ranks 2 --sharers 2\n"
      "  plateau summary --compare vgg-d alexnet\n"
      "Networks: " +
      JoinNames(NetworkNames()));
  verb->add_option("network,--network", flags->network, "such as vgg-d; all are listed below");
  verb->add_option("--compare", flags->compare, "networks to put beside each other")->expected(1, 20);
  verb->add_option("--input", flags->input, "channels x height x width; default: the network's own, such as 3x224x224");
  verb->add_option("--classes", flags->classes, "number of classes; default: the network's own (lenet 10, else 1000)")
      ->check(within::kClasses);
  verb->add_option("--width", flags->width, "multiplies channels and fully connected units; 1 is the paper's")
      ->capture_default_str();
  verb->add_option("--batch", flags->batch, "images that the memory figures count; with --device cuda, those of one rank")
      ->check(within::kBatch)
      ->capture_default_str();
  verb->add_option("--device", flags->device, "cuda: also predict the memory of training on a CUDA device")->capture_default_str();
  verb->add_option("--precision", flags->precision, "of --device cuda: fp32, tf32, bf16; auto is bf16")->capture_default_str();
  CLI::Option* memory = verb->add_option("--memory", flags->memory,
                                         "what is free on the device, in GiB or as 80GiB, 80GB: also say which batch fits");
  CLI::Option* ranks =
      verb->add_option("--ranks", flags->ranks, "of the job: where there are several, NCCL is left memory for its buffers")
          ->check(within::kRanks)
          ->capture_default_str();
  verb->add_option("--sharers", flags->sharers, "ranks on the device, at most --ranks: each may use an equal part")
      ->check(within::kRanks)
      ->capture_default_str();
  verb->add_flag("--json", flags->json, "print JSON");
  verb->callback([flags, memory, ranks, &exit_code] {
    flags->memory_given = memory->count() > 0;
    flags->ranks_given = ranks->count() > 0;
    const auto status = RunSummary(*flags);
    if (status) return;
    fmt::print(stderr, "plateau summary: {}\n", status.error().message);
    exit_code = ExitCode(status.error().code);
  });
}

}  // namespace plateau
