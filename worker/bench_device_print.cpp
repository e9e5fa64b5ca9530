// A device's benchmark as a table and as JSON.
#include <nlohmann/json.hpp>

#include "worker/bench_device.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

double Milliseconds(double seconds) { return seconds * 1e3; }

// A pass's time and its floor.
struct Timed {
  double seconds = 0, floor = 0;
};

struct TimedLayer {
  Timed forward, data, weights;
};

std::vector<TimedLayer> Together(const DeviceBench& bench) {
  const double flops = bench.rates.gemm_flops_per_s, bytes = bench.rates.copy_bytes_per_s;
  std::vector<TimedLayer> layers;
  for (size_t i = 0; i < bench.names.size(); ++i) {
    const PassSeconds& time = bench.passes[i];
    const LayerFloor& floor = bench.floors[i];
    layers.push_back({{time.forward, floor.forward.Seconds(flops, bytes)},
                      {time.data, floor.data.Seconds(flops, bytes)},
                      {time.weights, floor.weights.Seconds(flops, bytes)}});
  }
  return layers;
}

std::string Cell(const Timed& timed) {
  if (timed.floor <= 0 && timed.seconds <= 0) return fmt::format("{:>24}", "");
  if (timed.floor <= 0) return fmt::format("{:>9.3f}{:>15}", Milliseconds(timed.seconds), "");
  return fmt::format("{:>9.3f}{:>9.3f}{:>5.0f}%", Milliseconds(timed.seconds), Milliseconds(timed.floor),
                     timed.seconds > 0 ? 100 * timed.floor / timed.seconds : 0);
}

void Add(Timed& sum, const Timed& one) {
  sum.seconds += one.seconds;
  sum.floor += one.floor;
}

Json ToJson(const Timed& timed) { return {{"ms", Milliseconds(timed.seconds)}, {"floor_ms", Milliseconds(timed.floor)}}; }

}  // namespace

Json DeviceBenchToJson(const BenchOptions& o, const DeviceBench& bench) {
  const double median = bench.MedianStep();
  Json document{{"network", o.network},
                {"width", o.width},
                {"classes", o.classes},
                {"batch", o.batch},
                {"crop", o.crop},
                {"precision", PrecisionName(bench.precision)},
                {"device", bench.device},
                {"images_per_s", {{"median", o.batch / median}, {"best", o.batch / bench.step_s.front()}}},
                {"direct_equivalent_gflops", o.batch * bench.train_flops / median / 1e9},
                {"gemm_gflops", bench.rates.gemm_flops_per_s / 1e9},
                {"gemm_share", bench.GemmShare(o.batch)},
                {"copy_gb_per_s", bench.rates.copy_bytes_per_s / 1e9},
                {"first_loss", bench.first_loss},
                {"last_loss", bench.last_loss}};
  for (const double step : bench.step_s) document["step_ms"].push_back(Milliseconds(step));
  const auto layers = Together(bench);
  for (size_t i = 0; i < layers.size(); ++i)
    document["layers"].push_back({{"name", bench.names[i]},
                                  {"forward", ToJson(layers[i].forward)},
                                  {"backward_data", ToJson(layers[i].data)},
                                  {"backward_weights", ToJson(layers[i].weights)}});
  document["algorithms"] = bench.algorithms;
  return document;
}

std::string DeviceBenchText(const BenchOptions& o, const DeviceBench& bench) {
  const double median = bench.MedianStep();
  size_t wide = 5;
  for (const std::string& name : bench.names) wide = std::max(wide, name.size());
  std::string text = fmt::format("{} width {}, batch {}, crop {}, {} classes, {}, on {}\n", o.network, o.width, o.batch, o.crop,
                                 o.classes, PrecisionName(bench.precision), bench.device);
  text += fmt::format("this device: {:.1f} TFLOP/s in large {} products, {:.0f} GB/s copying (read plus written)\n\n",
                      bench.rates.gemm_flops_per_s / 1e12, PrecisionName(bench.precision), bench.rates.copy_bytes_per_s / 1e9);
  text += fmt::format("{:<{}}{:>9}{:>9}{:>6}{:>9}{:>9}{:>6}{:>9}{:>9}{:>6}   ms, medians of {} steps; %: floor / time\n", "layer", wide,
                      "forward", "floor", "%", "data", "floor", "%", "weights", "floor", "%", o.steps);
  TimedLayer sum;
  const auto layers = Together(bench);
  for (size_t i = 0; i < layers.size(); ++i) {
    text += fmt::format("{:<{}}{}{}{}\n", bench.names[i], wide, Cell(layers[i].forward), Cell(layers[i].data), Cell(layers[i].weights));
    Add(sum.forward, layers[i].forward);
    Add(sum.data, layers[i].data);
    Add(sum.weights, layers[i].weights);
  }
  text += fmt::format("{:<{}}{}{}{}\n", "sum", wide, Cell(sum.forward), Cell(sum.data), Cell(sum.weights));
  const double floors = sum.forward.floor + sum.data.floor + sum.weights.floor;
  text += fmt::format("\nwhole step (as training runs it) {:.2f} ms median, {:.2f} ms best; floors add up to {:.2f} ms; loss {:.4f} -> {:.4f}\n",
                      Milliseconds(median), Milliseconds(bench.step_s.front()), Milliseconds(floors), bench.first_loss, bench.last_loss);
  text += fmt::format("images/s: median {:.1f}, best {:.1f}\n", o.batch / median, o.batch / bench.step_s.front());
  return text + fmt::format("{:.1f} TFLOP/s direct-equivalent: {:.1f}% of this device's large {} products\n",
                            o.batch * bench.train_flops / median / 1e12, 100 * bench.GemmShare(o.batch), PrecisionName(bench.precision));
}

}  // namespace plateau
