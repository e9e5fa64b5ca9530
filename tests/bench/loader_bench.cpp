// Images a second of CPU time through the whole loader, beside plain decoding of the same files on the same machine.
// usage: loader_bench FOLDER|STORE [REPEATS] [THREADS]    (FOLDER holds one sub-folder a class; a STORE has a manifest.json)
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <numeric>
#include <set>

#include <fmt/format.h>
#include <sys/resource.h>

#include "dataset/augment.h"
#include "dataset/pipeline.h"
#include "tests/support/memory_store.h"

namespace plateau {
namespace {

constexpr int kBatch = 64;

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

[[noreturn]] void Die(const std::string& message) {
  fmt::print(stderr, "loader_bench: {}\n", message);
  std::exit(1);
}

std::unique_ptr<StoreReader> OpenFolder(const std::string& folder) {
  auto store = std::make_unique<testing::MemoryStore>(0);
  std::set<std::filesystem::path> classes;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.is_directory()) classes.insert(entry.path());
  int label = 0;
  for (const auto& path : classes) {
    std::set<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(path)) files.insert(entry.path());
    for (const auto& file : files) {
      std::ifstream stream(file, std::ios::binary);
      store->Add("train", std::string(std::istreambuf_iterator<char>(stream), {}), label);
    }
    ++label;
  }
  if (label == 0) Die(folder + " has no class folders");
  store->mutable_manifest().classes.resize(static_cast<size_t>(label));
  return store;
}

// ImageNet's moments (recipe.md): the same work as on the real set.
Preprocessing Recipe(int scale_low, int scale_high) {
  Preprocessing out;
  out.scale_low = scale_low;
  out.scale_high = scale_high;
  out.mean = {123.68F, 116.779F, 103.939F};
  out.standard_deviation = {58.4F, 57.1F, 57.4F};
  out.colour_eigenvalues = {0.2175, 0.0188, 0.0045};
  out.colour_eigenvectors = {{{-0.5675, 0.7192, 0.4009}, {-0.5808, -0.0045, -0.8140}, {-0.5836, -0.6948, 0.4203}}};
  return out;
}

struct Timing {
  double wall_per_s = 0, cpu_per_s = 0;  // images
};

// Runs `work`, which returns how many images it saw.
Timing Time(const std::function<int64_t()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  const double cpu = CpuSeconds();
  const auto images = static_cast<double>(work());
  const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return {images / wall, images / (CpuSeconds() - cpu)};
}

enum class Form { kFloats, kPixels };

// A way to load the set, timed in steady state: buffers exist, and as much is decoded ahead at the end as at the beginning.
class Lane {
 public:
  Lane(std::string name, const StoreReader& store, const Preprocessing& recipe, bool training, Form form, int threads)
      : name_(std::move(name)), store_(store), recipe_(recipe) {
    options_.pixels = form == Form::kPixels;
    options_.training = training;
    options_.global_batch = options_.rows = kBatch;
    options_.threads = threads;
    options_.queue_batches = 2;
  }

  const std::string& name() const { return name_; }

  // At least `images` images.
  Timing Measure(int64_t images) {
    Start();
    for (int warm = 0; warm < 4; ++warm) Take();
    const Timing timing = Time([&] {
      int64_t seen = 0;
      while (seen < images) seen += Take();
      return seen;
    });
    pipeline_.reset();  // or it would decode ahead into the next lane's time
    return timing;
  }

  // Dies unless one epoch or pass has every record once and `crops` of its crops look like an independent rendering: everything
  // decoded, nothing DCT-scaled, baseline kernels. Returns their mean absolute difference in levels.
  double Verify(int crops) {
    Start();
    const SplitInfo& split = *store_.manifest().Split(options_.split);
    std::set<uint64_t> ordinals;
    double difference = 0;
    uint64_t position = 0;
    while (position < split.records) {
      auto batch = Next();
      for (size_t row = 0; row < kBatch && position < split.records; ++row, ++position) {
        ordinals.insert(batch->sample_index[row]);
        if (position < static_cast<uint64_t>(crops))
          difference += Difference(split, batch->sample_index[row], ValuesOf(*batch, row)) / crops;
      }
      pipeline_->Recycle(std::move(batch));
    }
    pipeline_.reset();
    if (ordinals.size() != split.records) Die(fmt::format("{}: {} different records of {}", name_, ordinals.size(), split.records));
    if (difference > 4) Die(fmt::format("{}: crops differ by {:.2f} levels from an independent rendering", name_, difference));
    return difference;
  }

 private:
  size_t Values() const { return static_cast<size_t>(3 * recipe_.crop * recipe_.crop); }

  void Start() {
    auto started = Pipeline::Start(store_, recipe_, options_);
    if (!started) Die(started.error().message);
    pipeline_ = std::move(*started);
  }

  std::unique_ptr<Batch> Next() {
    while (true) {
      auto batch = pipeline_->Next();
      if (!batch) Die(batch.error().message);
      if (*batch != nullptr) return std::move(*batch);
      pipeline_->Seek(0);
    }
  }

  int64_t Take() {
    auto batch = Next();
    const auto images = static_cast<int64_t>(std::accumulate(batch->weights.begin(), batch->weights.end(), 0.0F));
    pipeline_->Recycle(std::move(batch));
    return images;
  }

  std::vector<float> ValuesOf(const Batch& batch, size_t row) const {
    std::vector<float> values(Values());
    if (options_.pixels)
      ToValues(std::span(batch.pixels).subspan(row * Values(), Values()), batch.scales[row], recipe_.crop, values);
    else
      std::copy_n(batch.images.data() + row * Values(), Values(), values.data());
    return values;
  }

  double Difference(const SplitInfo& split, uint64_t ordinal, const std::vector<float>& got) const {
    RecordBuffer buffer;
    Decoder decoder;
    Image whole;
    if (!store_.Read(split, ordinal, buffer) || !decoder.DecodeFull(buffer.record.bytes, whole)) Die("cannot read a record again");
    const Augmentation drawn = options_.training ? DrawAugmentation(recipe_, options_.seed, 0, ordinal, whole.width, whole.height)
                                                 : CentreCrop(recipe_, whole.width, whole.height);
    const ImageSize scaled = ScaledSize(whole.width, whole.height, drawn.scale);
    AxisFilter columns, rows;
    columns.Make(whole.width, whole.width, scaled.width, drawn.left, recipe_.crop, drawn.flip);
    rows.Make(whole.height, whole.height, scaled.height, drawn.top, recipe_.crop, false);
    std::vector<float> expected(Values());
    Resizer(BaselineKernels()).ToPlanar(whole, 0, 0, columns, rows, 3, {1, 1, 1}, drawn.colour, expected.data());
    const size_t plane = Values() / 3;
    double sum = 0;
    for (size_t i = 0; i < Values(); ++i)
      sum += std::abs(got[i] * recipe_.standard_deviation[i / plane] + recipe_.mean[i / plane] - expected[i]);
    return sum / static_cast<double>(Values());
  }

  std::string name_;
  const StoreReader& store_;
  Preprocessing recipe_;
  PipelineOptions options_;
  std::unique_ptr<Pipeline> pipeline_;
};

// The measured ceiling: libjpeg-turbo alone, whole images at full size, one thread.
Timing MeasureDecoding(const StoreReader& store, int64_t images) {
  const SplitInfo& split = *store.manifest().Split("train");
  Decoder decoder;
  Image image;
  RecordBuffer buffer;
  return Time([&] {
    int64_t seen = 0;
    for (; seen < images; ++seen) {
      const uint64_t ordinal = SourceOrdinal(split, static_cast<uint64_t>(seen) % split.records);
      if (!store.Read(split, ordinal, buffer) || !decoder.DecodeFull(buffer.record.bytes, image)) Die("cannot decode a record");
    }
    return seen;
  });
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + std::ssize(values) / 2, values.end());
  return values[values.size() / 2];
}

void Run(const std::string& path, int repeats, int threads) {
  PosixFileSystem files;
  std::unique_ptr<StoreReader> store;
  if (std::filesystem::exists(path + "/manifest.json")) {
    auto opened = StoreReader::Open(files, path);
    if (!opened) Die(opened.error().message);
    store = std::move(*opened);
  } else {
    store = OpenFolder(path);
  }
  std::vector<Lane> lanes;
  // Floats are what the CPU trains on, bytes what a device does.
  for (const auto& [form, word] : {std::pair{Form::kFloats, ""}, {Form::kPixels, ", bytes"}}) {
    lanes.emplace_back(fmt::format("train, S = 256{}", word), *store, Recipe(256, 256), true, form, threads);
    lanes.emplace_back(fmt::format("train, S in [256, 512]{}", word), *store, Recipe(256, 512), true, form, threads);
    lanes.emplace_back(fmt::format("evaluate, Q = 256{}", word), *store, Recipe(256, 256), false, form, threads);
  }
  for (Lane& lane : lanes) fmt::print("{}: verified, {:.2f} levels from an independent rendering\n", lane.name(), lane.Verify(48));

  std::vector<double> ceiling;
  std::vector<std::vector<double>> wall(lanes.size()), cpu(lanes.size());
  for (int repeat = 0; repeat < repeats; ++repeat) {
    ceiling.push_back(MeasureDecoding(*store, 600).cpu_per_s);
    for (size_t i = 0; i < lanes.size(); ++i) {
      const Timing timing = lanes[i].Measure(900);
      wall[i].push_back(timing.wall_per_s);
      cpu[i].push_back(timing.cpu_per_s);
    }
  }
  const double decoding = Median(ceiling);
  fmt::print("{} repeats, {} threads, medians; {} kernels\n", repeats, threads, Avx2Kernels() != nullptr ? "AVX2" : "baseline");
  fmt::print("{:<32}{:>8.0f} images/s of CPU time\n", "decoding whole images", decoding);
  for (size_t i = 0; i < lanes.size(); ++i)
    fmt::print("{:<32}{:>8.0f} images/s of CPU time ({:.2f} of whole decoding), {:.0f} images/s wall\n", lanes[i].name(),
               Median(cpu[i]), Median(cpu[i]) / decoding, Median(wall[i]));
}

}  // namespace
}  // namespace plateau

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "usage: loader_bench FOLDER|STORE [REPEATS] [THREADS]\n");
    return 2;
  }
  plateau::Run(argv[1], argc > 2 ? std::atoi(argv[2]) : 5, argc > 3 ? std::atoi(argv[3]) : 1);
  return 0;
}
