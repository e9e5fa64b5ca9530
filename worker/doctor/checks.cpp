// Runs the parts that training stands on, with results that can be told right from wrong.
#include "worker/doctor/checks.h"

#include <chrono>
#include <cmath>

#include "common/random.h"
#include "worker/nn/init.h"
#include "worker/nn/reference.h"

namespace plateau {
namespace {

constexpr int kBatch = 4, kSide = 16, kClasses = 10;
constexpr double kTolerance = 1e-5;  // relative L2, fp32
constexpr int64_t kValues = 1 << 20;

Network SmallNetwork() {
  Network network{.name = "doctor", .classes = kClasses, .input_side = kSide};
  network.layers = {{.name = "conv", .inputs = {-1}, .out_channels = 32, .kernel = 3, .pad = 1, .relu = true},
                    {.kind = LayerKind::kFullyConnected, .name = "fc", .inputs = {0}, .out_channels = kClasses}};
  return network;
}

struct Images {
  std::vector<float> values, weights;
  std::vector<int32_t> labels;
  std::vector<uint64_t> index;
  LaneBatch lane() const { return {values, labels, weights, index}; }
};

Images MakeImages() {
  Images images;
  RandomStream stream(1, RandomPurpose::kSynthetic, 0, 0);
  for (int i = 0; i < kBatch * 3 * kSide * kSide; ++i) images.values.push_back(static_cast<float>(stream.NextNormal()));
  images.labels.resize(kBatch);
  images.weights.assign(kBatch, 1);
  images.index.resize(kBatch);
  return images;
}

std::vector<std::vector<double>> CanonicalWeights(ParameterStore& store) {
  std::vector<std::vector<double>> all;
  for (int p = 0; p < store.count(); ++p) {
    std::vector<float> values(static_cast<size_t>(store.info(p).CanonicalCount()));
    store.ToCanonical(p, store.weight(p), values);
    all.emplace_back(values.begin(), values.end());
  }
  return all;
}

double Distance(std::span<const float> got, const std::vector<double>& wanted) {
  double apart = 0, length = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    apart += (got[i] - wanted[i]) * (got[i] - wanted[i]);
    length += wanted[i] * wanted[i];
  }
  return std::sqrt(apart / length);
}

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Relative error of the engine's logits.
Result<double> ErrorOf(Engine& engine) {
  InitParameters(engine.parameters(), InitScheme{}, 1);
  const Images images = MakeImages();
  PLATEAU_ASSIGN(Plan * plan, engine.Compile({.batch = kBatch, .height = kSide, .width = kSide, .training = false}));
  plan->Forward(images.lane(), 0);
  const auto wanted = reference::RunNetwork(engine.network(), CanonicalWeights(engine.parameters()), images.lane(), kSide, kSide,
                                            kBatch, false, 1, 0);
  return Distance(plan->logits(), wanted.logits.values);
}

}  // namespace

std::vector<Finding> CheckCpu(int threads) {
  try {
    const auto engine = CreateCpuEngine(SmallNetwork(), {.threads = threads, .crop = kSide});
    if (!engine) return {{"Checks", "CPU", Health::kBad, engine.error().message}};
    std::vector<Finding> findings{{"Checks", "engine", Health::kInfo, (*engine)->description()}};
    const auto error = ErrorOf(**engine);
    if (!error) return {{"Checks", "CPU", Health::kBad, error.error().message}};
    const bool right = *error < kTolerance;
    findings.push_back({"Checks", "convolution, CPU", right ? Health::kGood : Health::kBad,
                        right ? fmt::format("right (relative error {:.1e} against plain loops)", *error)
                              : fmt::format("wrong: relative error {:.1e}, below {:.0e} is expected", *error, kTolerance)});
    return findings;
  } catch (const Failure& failure) {
    return {{"Checks", "CPU", Health::kBad, failure.what()}};
  }
}

std::vector<Finding> CheckCuda(const CudaAnswer& answer, Watchdog& watchdog) {
  std::vector<Finding> findings;
  for (size_t i = 0; i < answer.devices.size(); ++i) {
    const std::string name = fmt::format("CUDA device {}", i);
    const auto lines = watchdog.Bound(fmt::format("the self-test (convolutions, sums) of {}, {},", name, answer.devices[i].name),
                                      [&] { return answer.table->self_test(static_cast<int>(i)); });
    if (!lines) {
      findings.push_back({"Checks", name, Health::kBad, lines.error().message});
      continue;
    }
    for (const std::string& line : *lines) findings.push_back({"Checks", name, Health::kGood, line});
  }
  return findings;
}

std::vector<Finding> CheckCollective(Collective& collective) {
  const int ranks = collective.world_size();
  if (ranks == 1)
    return {{"Checks", "all-reduce", Health::kInfo, "one rank, nothing to sum; mpirun -np 2 plateau-worker doctor tries it"}};
  try {
    // Rank r gives (r + 1) * (i % 7): whole numbers, so that every order of the sum is exact.
    std::vector<float> values(kValues);
    for (int64_t i = 0; i < kValues; ++i) values[static_cast<size_t>(i)] = static_cast<float>((collective.rank() + 1) * (i % 7));
    const double begin = Seconds();
    collective.AllReduceSum(std::span<float>(values));
    const double seconds = Seconds() - begin;
    const float each = static_cast<float>(ranks) * static_cast<float>(ranks + 1) / 2;
    int64_t wrong = 0;
    for (int64_t i = 0; i < kValues; ++i) wrong += values[static_cast<size_t>(i)] == each * static_cast<float>(i % 7) ? 0 : 1;
    if (wrong > 0)
      return {{"Checks", "all-reduce", Health::kBad, fmt::format("{} of {} sums over {} ranks are wrong", wrong, kValues, ranks)}};
    return {{"Checks", "all-reduce", Health::kGood,
             fmt::format("right: 4 MiB over {} ranks by MPI in {:.1f} ms", ranks, seconds * 1e3)}};
  } catch (const Failure& failure) {
    return {{"Checks", "all-reduce", Health::kBad, failure.what()}};
  }
}

std::vector<Finding> CheckDeviceSum(Collective& collective, const CudaAnswer& answer, int device) {
  constexpr const char* kName = "all-reduce, devices";
  const int ranks = collective.world_size();
  int64_t with = answer.devices.empty() ? 0 : 1;
  collective.AllReduceSum(std::span(&with, 1));
  if (ranks == 1 || with == 0) return {};
  if (with < ranks)
    return {{"Checks", kName, Health::kNote,
             fmt::format("not tried: {} of {} ranks have no CUDA device, and training would take all to the CPU", ranks - with,
                         ranks)}};
  const auto line = answer.table->rank_self_test(collective, device);
  if (!line) return {{"Checks", kName, Health::kBad, line.error().message}};
  return {{"Checks", kName, Health::kGood, *line}};
}

}  // namespace plateau
