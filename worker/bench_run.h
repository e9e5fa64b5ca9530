// Times whole training steps on made-up input: forward, loss, backward, SGD update; no data loading.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "worker/bench_checkpoint.h"
#include "worker/nn/plan.h"

namespace plateau {

struct BenchOptions {
  std::string network = "vgg-d";
  double width = 1;
  int classes = 1000, batch = 8, crop = 224, threads = 1, steps = 5;
  ConvAlgorithm algorithm = ConvAlgorithm::kAuto;
  std::string checkpoint;  // folder: also time steps beside a checkpoint that is written there; empty: not
  int rounds = 3;          // checkpoints
};

// Medians over the steps, seconds.
struct LayerTimes {
  std::string name;
  double forward_s = 0, backward_data_s = 0, backward_weights_s = 0;
};

struct BenchResult {
  std::string device;
  std::vector<double> step_s;  // ascending
  std::vector<LayerTimes> layers;
  double loss_s = 0, sgd_s = 0;  // medians
  double train_flops = 0;        // of one image, counted as direct convolutions
  double gemm_gflops = 0;
  double first_loss = 0, last_loss = 0;  // means over the batch
  std::vector<std::string> algorithms;
  std::optional<CheckpointTimes> checkpoint;

  double MedianStep() const { return step_s[step_s.size() / 2]; }
};

// An error of memory is the batch's: says so naming --batch, as kInvalidInput.
Error BatchError(const BenchOptions& options, Error error);

// Two steps warm up, then options.steps are timed. kNumeric when the loss does not stay finite: a speed of wrong results is none.
Result<BenchResult> RunBench(const BenchOptions& options);

}  // namespace plateau
