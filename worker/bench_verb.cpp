// The bench verb.
#include "worker/bench_verb.h"

#include <omp.h>

#include <cstdio>
#include <memory>
#include <new>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "common/text.h"
#include "worker/bench_device.h"
#include "worker/bench_run.h"
#include "worker/compute_flags.h"
#include "worker/flag_ranges.h"
#include "worker/model/network.h"

namespace plateau {
namespace {

struct BenchFlags {
  BenchOptions options;
  std::string algorithm = "auto";
  ComputeFlags compute;
  bool json = false;
};

double Milliseconds(double seconds) { return seconds * 1e3; }

void PrintJson(const BenchFlags& flags, const BenchResult& result) {
  const BenchOptions& o = flags.options;
  const double median = result.MedianStep();
  nlohmann::ordered_json document = {{"network", o.network},
                                     {"width", o.width},
                                     {"classes", o.classes},
                                     {"batch", o.batch},
                                     {"crop", o.crop},
                                     {"threads", o.threads},
                                     {"algorithm", flags.algorithm},
                                     {"device", result.device},
                                     {"images_per_s", {{"median", o.batch / median}, {"best", o.batch / result.step_s.front()}}},
                                     {"direct_equivalent_gflops", o.batch * result.train_flops / median / 1e9},
                                     {"gemm_gflops", result.gemm_gflops},
                                     {"first_loss", result.first_loss},
                                     {"last_loss", result.last_loss},
                                     {"loss_ms", Milliseconds(result.loss_s)},
                                     {"sgd_ms", Milliseconds(result.sgd_s)}};
  if (result.checkpoint) {
    const CheckpointTimes& c = *result.checkpoint;
    document["checkpoint"] = {{"bytes", c.bytes},
                              {"plain_step_s", c.plain_s},
                              {"step_beside_s", c.during_s},
                              {"snapshot_s", c.snapshot_s},
                              {"write_s", c.write_s}};
  }
  for (const double step : result.step_s) document["step_ms"].push_back(Milliseconds(step));
  for (const LayerTimes& layer : result.layers) {
    document["layers"].push_back({{"name", layer.name},
                                  {"forward_ms", Milliseconds(layer.forward_s)},
                                  {"backward_data_ms", Milliseconds(layer.backward_data_s)},
                                  {"backward_weights_ms", Milliseconds(layer.backward_weights_s)}});
  }
  document["algorithms"] = result.algorithms;
  fmt::print("{}\n", document.dump(2));
}

double Middle(const std::vector<double>& ascending) { return ascending[ascending.size() / 2]; }

void PrintCheckpoint(const CheckpointTimes& times) {
  const double plain = Middle(times.plain_s), beside = Middle(times.during_s);
  fmt::print(
      "checkpoints of {}: training stood still for {:.0f} ms (median; at most {:.0f}), the rest took {:.1f} s in the background\n",
      HumanBytes(times.bytes), Milliseconds(Middle(times.snapshot_s)), Milliseconds(times.snapshot_s.back()),
      Middle(times.write_s));
  fmt::print(
      "step: {:.1f} ms alone ({} steps), {:.1f} ms beside a checkpoint ({} steps, snapshot included): {:.3f}x; the longest: "
      "{:.1f} ms alone, {:.1f} ms beside one\n",
      Milliseconds(plain), times.plain_s.size(), Milliseconds(beside), times.during_s.size(), beside / plain,
      Milliseconds(times.plain_s.back()), Milliseconds(times.during_s.back()));
}

void PrintTable(const BenchFlags& flags, const BenchResult& result) {
  const BenchOptions& o = flags.options;
  const double median = result.MedianStep();
  fmt::print("{} width {}, batch {}, crop {}, {} classes, on {}, convolutions {}\n", o.network, o.width, o.batch, o.crop, o.classes,
             result.device, flags.algorithm);
  fmt::print("{:<10}{:>12}{:>16}{:>18}   ms, medians of {} steps\n", "layer", "forward", "backward data", "backward weights",
             o.steps);
  LayerTimes sum;
  for (const LayerTimes& layer : result.layers) {
    fmt::print("{:<10}{:>12.2f}{:>16.2f}{:>18.2f}\n", layer.name, Milliseconds(layer.forward_s),
               Milliseconds(layer.backward_data_s), Milliseconds(layer.backward_weights_s));
    sum.forward_s += layer.forward_s;
    sum.backward_data_s += layer.backward_data_s;
    sum.backward_weights_s += layer.backward_weights_s;
  }
  fmt::print("{:<10}{:>12.2f}{:>16.2f}{:>18.2f}\n", "sum", Milliseconds(sum.forward_s), Milliseconds(sum.backward_data_s),
             Milliseconds(sum.backward_weights_s));
  fmt::print("loss {:.2f} ms, SGD update {:.2f} ms, step {:.1f} ms (median), loss {:.4f} -> {:.4f}\n", Milliseconds(result.loss_s),
             Milliseconds(result.sgd_s), Milliseconds(median), result.first_loss, result.last_loss);
  fmt::print("images/s: median {:.2f}, best {:.2f}\n", o.batch / median, o.batch / result.step_s.front());
  fmt::print(
      "{:.1f} GFLOP/s direct-equivalent (Winograd does fewer multiplications than it is counted for); this machine's float32 GEMM: "
      "{:.1f} GFLOP/s\n",
      o.batch * result.train_flops / median / 1e9, result.gemm_gflops);
  if (result.checkpoint) PrintCheckpoint(*result.checkpoint);
}

Status RunOnDevice(const BenchFlags& flags, const Compute& compute) {
  if (!flags.options.checkpoint.empty())
    return Fail(ErrorCode::kInvalidInput, "--checkpoint is timed on the CPU alone; leave it out, or give --device cpu");
  PLATEAU_TRY(CheckAlgorithm(flags.algorithm, compute));
  PLATEAU_ASSIGN(const DeviceBench bench, RunDeviceBench(flags.options, compute));
  fmt::print("{}", flags.json ? DeviceBenchToJson(flags.options, bench).dump(2) + "\n" : DeviceBenchText(flags.options, bench));
  return {};
}

Status RunBenchVerb(BenchFlags flags) {
  if (flags.options.threads == 0) flags.options.threads = omp_get_num_procs();
  if (flags.algorithm == "direct") {
    flags.options.algorithm = ConvAlgorithm::kDirect;
  } else if (flags.algorithm == "winograd") {
    flags.options.algorithm = ConvAlgorithm::kWinograd;
  } else if (flags.algorithm != "auto") {
    return Fail(ErrorCode::kInvalidInput, "--algorithm {}: not auto, direct or winograd", flags.algorithm);
  }
  PLATEAU_ASSIGN(const Compute compute, ChooseCompute(flags.compute));
  try {
    if (compute.device.cuda) return RunOnDevice(flags, compute);
    const auto result = RunBench(flags.options);
    if (!result) return Fail(result.error());
    if (flags.json) {
      PrintJson(flags, *result);
    } else {
      PrintTable(flags, *result);
    }
  } catch (const Failure& failure) {
    return Fail(Error{failure.code(), failure.what()});
  } catch (const std::bad_alloc&) {
    return Fail(ErrorCode::kInvalidInput, "--batch {}: out of memory; give a smaller one", flags.options.batch);
  }
  return {};
}

}  // namespace

void AddBenchVerb(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<BenchFlags>();
  flags->options.threads = 0;
  BenchOptions& o = flags->options;
  CLI::App* verb = app.add_subcommand("bench", "Time training steps (forward, loss, backward, SGD) on made-up input");
  verb->footer(
      "Examples:\n"
      "  plateau-worker bench --network vgg-d --batch 8 --threads 2 --steps 5\n"
      "  plateau-worker bench --network vgg-d --batch 8 --threads 1 --steps 5 --checkpoint /data/bench\n"
      "  plateau-worker bench --network vgg-d --batch 256 --device cuda --precision bf16 --steps 20\n"
      "  plateau-worker bench vgg-a --width 0.5 --crop 56 --batch 32 --classes 20 --threads 1 --json\n"
      "On a device the algorithms are those of training: what this machine has timed before stands in\n"
      "~/.cache/plateau/algorithms.json ($XDG_CACHE_HOME); without that file all are timed anew.\n"
      "Networks: " +
      JoinNames(NetworkNames()));
  verb->add_option("network,--network", o.network, "all are listed below")->capture_default_str();
  verb->add_option("--batch", o.batch, "images a step")->check(within::kBatch)->capture_default_str();
  verb->add_option("--crop", o.crop, "side of the input")->check(within::kSide)->capture_default_str();
  verb->add_option("--width", o.width, "multiplies channels and fully connected units; 1 is the paper's")->capture_default_str();
  verb->add_option("--classes", o.classes, "number of classes")->check(within::kClasses)->capture_default_str();
  verb->add_option("--threads", o.threads, "default: all cores")->check(within::kThreads);
  verb->add_option("--steps", o.steps, "timed steps, after two that warm up")->check(within::kCount)->capture_default_str();
  verb->add_option("--algorithm", flags->algorithm, "of the CPU: auto, direct, winograd")->capture_default_str();
  AddComputeFlags(*verb, flags->compute);
  verb->add_option("--checkpoint", o.checkpoint, "also write checkpoints into this new folder, and time the steps beside them");
  verb->add_option("--rounds", o.rounds, "checkpoints to write")->check(within::kCount)->capture_default_str();
  verb->add_flag("--json", flags->json, "print JSON");
  verb->callback([flags, &exit_code] {
    const auto status = RunBenchVerb(*flags);
    if (status) return;
    fmt::print(stderr, "plateau-worker bench: {}\n", status.error().message);
    exit_code = ExitCode(status.error().code);
  });
}

}  // namespace plateau
