// The predict verb.
#include "worker/predict_verb.h"

#include <omp.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <numeric>
#include <optional>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "dataset/augment.h"
#include "dataset/ingest_image.h"
#include "worker/class_words.h"
#include "worker/compute_flags.h"
#include "worker/flag_ranges.h"
#include "worker/inference.h"

namespace plateau {
namespace {

constexpr int kMostRows = 8;  // images of one pass

struct PredictFlags {
  std::string checkpoint, synsets;
  std::vector<std::string> images;
  ComputeFlags compute;
  int top = 5, threads = 0;
  bool json = false;
};

// Paths one after another: those given, and for "-" the lines of stdin, read as they come.
class PathList {
 public:
  explicit PathList(const std::vector<std::string>& given) : given_(given) {}
  std::optional<std::string> Next() {
    while (next_ < given_.size()) {
      if (given_[next_] != "-") return given_[next_++];
      std::string line;
      while (std::getline(std::cin, line)) {
        if (line.ends_with('\r')) line.pop_back();
        if (!line.empty()) return line;
      }
      ++next_;
    }
    return std::nullopt;
  }

 private:
  const std::vector<std::string>& given_;
  size_t next_ = 0;
};

// Prints results in the order of the paths.
class Printer {
 public:
  Printer(bool json, int top, const std::vector<ClassInfo>& classes, const Inference& inference)
      : json_(json), top_(top), classes_(classes), device_(inference.device()), precision_(inference.precision()) {
    if (json_)
      fmt::print("[");
    else
      fmt::print(stderr, "in {} on {}\n", precision_, device_);  // stdout is the images'
  }
  void Good(const std::string& path, std::span<const float> logits) {
    const std::vector<double> posterior = Softmax(logits);
    std::vector<size_t> order(posterior.size());
    std::iota(order.begin(), order.end(), size_t{0});
    const size_t count = std::min(order.size(), static_cast<size_t>(top_));
    std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(count), order.end(), [&](size_t a, size_t b) {
      return posterior[a] != posterior[b] ? posterior[a] > posterior[b] : a < b;
    });
    order.resize(count);
    if (!json_) return Text(path, posterior, order);
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const size_t c : order)
      list.push_back({{"class", c}, {"synset", classes_[c].synset}, {"words", classes_[c].words}, {"probability", posterior[c]}});
    Element({{"image", path}, {"classes", std::move(list)}, {"device", device_}, {"precision", precision_}});
  }
  void Bad(const std::string& path, const Error& error) {
    ++bad_;
    fmt::print(stderr, "plateau predict: {}\n", error.message);
    if (json_) Element({{"image", path}, {"error", error.message}});
  }
  void Finish() {
    if (json_) fmt::print("{}]\n", first_ ? "" : "\n");
    std::fflush(stdout);
  }
  int bad() const { return bad_; }

 private:
  void Text(const std::string& path, const std::vector<double>& posterior, const std::vector<size_t>& order) const {
    fmt::print("{}\n", path);
    for (const size_t c : order) fmt::print("  {:6.2f}%  {}  {}\n", 100 * posterior[c], classes_[c].synset, classes_[c].words);
    std::fflush(stdout);
  }
  // One element a line, replacing bytes of a path that are no UTF-8.
  void Element(const nlohmann::ordered_json& element) {
    fmt::print("{}\n  {}", first_ ? "" : ",", element.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    first_ = false;
  }

  bool json_, first_ = true;
  int top_, bad_ = 0;
  const std::vector<ClassInfo>& classes_;
  std::string device_, precision_;
};

// Images of a pass, in the form that the network's device takes.
class Images {
 public:
  Images(const Preprocessing& preprocessing, const Inference& inference)
      : augmenter_(preprocessing), pixels_wanted_(inference.takes_pixels()), image_values_(inference.image_values()) {}
  int count() const { return count_; }
  void Clear() { count_ = 0; }
  // Decodes in full, as ingest does: damage anywhere is an error, and then nothing is added.
  Status Add(FileSystem& files, const std::string& path) {
    PLATEAU_ASSIGN(const std::string bytes, files.Read(path));
    Status done = Render(bytes);
    if (!done) return Fail(done.error().code, "{}: {}; give a whole JPEG or PNG file", path, done.error().message);
    ++count_;
    return done;
  }
  std::span<const float> RunThrough(Inference& inference) const {
    return pixels_wanted_ ? inference.Run(pixels_, scales_, count_) : inference.Run(values_, count_);
  }

 private:
  Status Render(const std::string& bytes) {
    PLATEAU_ASSIGN(const ImagePreparer::Prepared prepared, preparer_.Prepare("", bytes));
    const RecordView record{prepared.header, prepared.bytes};
    const size_t before = static_cast<size_t>(count_) * image_values_;
    if (!pixels_wanted_) {
      values_.resize(before + image_values_);
      return augmenter_.Evaluate(record, values_.data() + before);
    }
    pixels_.resize(before + image_values_);
    scales_.resize(static_cast<size_t>(count_) + 1);
    return augmenter_.Evaluate(record, pixels_.data() + before, scales_.back());
  }

  Augmenter augmenter_;
  ImagePreparer preparer_;
  const bool pixels_wanted_;
  const size_t image_values_;
  int count_ = 0;
  std::vector<float> values_;
  std::vector<uint8_t> pixels_;
  std::vector<PixelScale> scales_;
};

Result<TrainedModel> OpenModel(FileSystem& files, const PredictFlags& flags) {
  PLATEAU_ASSIGN(TrainedModel model, OpenTrainedModel(files, flags.checkpoint));
  if (flags.synsets.empty()) return model;
  PLATEAU_ASSIGN(const auto known, ReadClassWords(files, flags.synsets));
  PLATEAU_TRY(NameClasses(known, flags.synsets, model.identity.classes));
  return model;
}

// Number of images that could not be used.
Result<int> RunPredict(const PredictFlags& flags) {
  if (flags.top < 1) return Fail(ErrorCode::kInvalidInput, "--top {}: at least 1 is needed", flags.top);
  PosixFileSystem files;
  PLATEAU_ASSIGN(const Compute compute, ChooseCompute(flags.compute));
  PLATEAU_ASSIGN(const TrainedModel model, OpenModel(files, flags));
  Preprocessing preprocessing = model.identity.preprocessing;
  preprocessing.scale_low = preprocessing.scale_high = model.identity.validation_scale;
  const bool from_stdin = std::find(flags.images.begin(), flags.images.end(), "-") != flags.images.end();
  const int rows = from_stdin ? kMostRows : std::min(kMostRows, static_cast<int>(flags.images.size()));
  PLATEAU_ASSIGN(Inference inference,
                 Inference::Make(files, model, "", rows, flags.threads > 0 ? flags.threads : omp_get_num_procs(), compute));

  Images batch(preprocessing, inference);
  Printer printer(flags.json, flags.top, model.identity.classes, inference);
  PathList paths(flags.images);
  std::vector<std::pair<std::string, Status>> waiting;  // in order; an image without error has its row in `batch`
  const auto flush = [&] {
    const auto logits = batch.count() > 0 ? batch.RunThrough(inference) : std::span<const float>();
    size_t row = 0;
    for (const auto& [path, status] : waiting) {
      if (!status) {
        printer.Bad(path, status.error());
        continue;
      }
      printer.Good(path, logits.subspan(row++ * static_cast<size_t>(inference.values()), static_cast<size_t>(inference.values())));
    }
    batch.Clear();
    waiting.clear();
  };
  while (const auto path = paths.Next()) {
    waiting.emplace_back(*path, batch.Add(files, *path));
    if (waiting.size() == static_cast<size_t>(rows)) flush();
  }
  flush();
  printer.Finish();
  return printer.bad();
}

}  // namespace

void AddPredictVerb(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<PredictFlags>();
  CLI::App* verb = app.add_subcommand("predict", "The likeliest classes of image files");
  verb->footer(
      "CHECKPOINT is the folder of a checkpoint (step-...), of a run (its published checkpoint), or of an import. The centre crop "
      "is\n"
      "looked at, at the checkpoint's validation scale. With --json an array is printed, an image a line: \"image\", \"classes\"\n"
      "(\"class\", \"synset\", \"words\", \"probability\"), \"device\" and \"precision\", or \"image\" and \"error\"; without it "
      "the device\n"
      "and the precision go to stderr.\n"
      "Examples:\n"
      "  plateau predict runs/vgg-d-1 cat.jpg dog.png\n"
      "  find photos -name '*.jpg' | plateau predict runs/vgg-d-1 - --json\n"
      "Exit codes: 0 all images, 2 some could not be used (the others are printed) or bad input, 1 anything else.");
  verb->add_option("checkpoint", flags->checkpoint, "Folder of a checkpoint or of a run")->required();
  verb->add_option("images", flags->images, "JPEG and PNG files; - reads paths from stdin, one a line")->required();
  verb->add_option("--top", flags->top, "Classes printed")->check(within::kCount)->capture_default_str();
  verb->add_option("--synsets", flags->synsets, "Words of the classes, lines as \"n01440764 tench\"; default: the checkpoint's own");
  verb->add_option("--threads", flags->threads, "Default: all cores")->check(within::kThreads);
  AddComputeFlags(*verb, flags->compute);
  verb->add_flag("--json", flags->json, "Print JSON");
  verb->callback([flags, &exit_code] {
    try {
      const auto bad = RunPredict(*flags);
      if (bad) {
        exit_code = *bad > 0 ? 2 : 0;
        return;
      }
      fmt::print(stderr, "plateau predict: {}\n", bad.error().message);
      exit_code = ExitCode(bad.error().code);
    } catch (const Failure& failure) {
      fmt::print(stderr, "plateau predict: {}\n", failure.what());
      exit_code = ExitCode(failure.code());
    }
  });
}

}  // namespace plateau
