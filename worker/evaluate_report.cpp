// Writes the outcome of a test as JSON and for people.
#include "worker/evaluate_report.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kVersion = 1;
constexpr int kMatrixClasses = 20;  // a confusion matrix of more does not fit on a screen
constexpr size_t kConfusionLines = 20;
constexpr size_t kNameColumns = 28;

Json NameOrNull(const std::string& name) { return name.empty() ? Json(nullptr) : Json(name); }
double Percent(double share) { return 100 * share; }

std::string ClassName(const ClassInfo& info) {
  std::string name = info.words.empty() ? info.synset : info.words.substr(0, info.words.find(','));
  if (name.size() > kNameColumns) name.resize(kNameColumns);
  return name;
}

std::string MatrixText(const TestCounts& counts) {
  std::string text = "\nconfusion matrix (row: true class, column: first choice)\n      ";
  for (int choice = 0; choice < counts.classes(); ++choice) text += fmt::format("{:>6}", choice);
  for (int label = 0; label < counts.classes(); ++label) {
    text += fmt::format("\n{:>6}", label);
    for (int choice = 0; choice < counts.classes(); ++choice) text += fmt::format("{:>6}", counts.confusion(label, choice));
  }
  return text + "\n";
}

std::string ConfusionsText(const TestCounts& counts, const std::vector<ClassInfo>& classes) {
  struct Cell {
    int64_t images;
    int label, choice;
  };
  std::vector<Cell> cells;
  for (int label = 0; label < counts.classes(); ++label)
    for (int choice = 0; choice < counts.classes(); ++choice)
      if (label != choice && counts.confusion(label, choice) > 0) cells.push_back({counts.confusion(label, choice), label, choice});
  std::stable_sort(cells.begin(), cells.end(), [](const Cell& a, const Cell& b) { return a.images > b.images; });
  std::string text = "\nmost frequent confusions\n";
  for (size_t i = 0; i < std::min(cells.size(), kConfusionLines); ++i)
    text += fmt::format("{:>6}  {} taken for {}\n", cells[i].images, ClassName(classes[static_cast<size_t>(cells[i].label)]),
                        ClassName(classes[static_cast<size_t>(cells[i].choice)]));
  return text;
}

}  // namespace

Json ResultToJson(const TestSubject& s, const TestCounts& counts) {
  return {{"version", kVersion},
          {"kind", "evaluate"},
          {"images", counts.images()},
          {"correct1", counts.correct1()},
          {"correct5", counts.correct5()},
          {"top1_error", counts.top1_error()},
          {"top5_error", counts.top5_error()},
          {"loss", counts.mean_loss()},
          {"scales", s.scales},
          {"mode", s.mode},
          {"flip", s.flip},
          {"crop", s.crop},
          {"seconds", s.seconds},
          {"device", s.device},
          {"precision", s.precision},
          {"ranks", s.ranks},
          {"threads", s.threads},
          {"checkpoint", s.checkpoint},
          {"checkpoint_checksum", s.checkpoint_checksum},
          {"step", s.step},
          {"network", s.network},
          {"width", s.width},
          {"classes", s.classes},
          {"store", s.store},
          {"split", s.split},
          {"split_checksum", s.split_checksum},
          {"posteriors", NameOrNull(s.posteriors)},
          {"per_class", NameOrNull(s.per_class)}};
}

Json PerClassToJson(const TestCounts& counts, const std::vector<ClassInfo>& classes) {
  Json list = Json::array(), matrix = Json::array();
  for (int c = 0; c < counts.classes(); ++c) {
    const ClassInfo& info = classes[static_cast<size_t>(c)];
    list.push_back({{"class", c},
                    {"synset", info.synset},
                    {"words", info.words},
                    {"images", counts.class_images(c)},
                    {"correct1", counts.class_correct1(c)},
                    {"correct5", counts.class_correct5(c)}});
    Json row = Json::array();
    for (int choice = 0; choice < counts.classes(); ++choice) row.push_back(counts.confusion(c, choice));
    matrix.push_back(std::move(row));
  }
  return {{"version", kVersion}, {"classes", std::move(list)}, {"confusion", std::move(matrix)}};
}

std::string ErrorsText(const TestCounts& counts) {
  return fmt::format("top-1 error {:.2f}% ({} of {} right), top-5 error {:.2f}% ({} of {})", Percent(counts.top1_error()),
                     counts.correct1(), counts.images(), Percent(counts.top5_error()), counts.correct5(), counts.images());
}

std::string ResultText(const TestSubject& s, const TestCounts& counts) {
  std::string text = fmt::format("{} of step {} ({}) on {} images of {}, split {}\n", s.network, s.step, s.checkpoint,
                                 counts.images(), s.store, s.split);
  text += fmt::format("{} at scale{} {}{}\n", s.mode, s.scales.size() > 1 ? "s" : "", fmt::join(s.scales, ", "),
                      s.flip ? ", with mirror images" : "");
  text += fmt::format("{}, loss {:.4f}\n", ErrorsText(counts), counts.mean_loss());
  text += fmt::format("{:.1f} s, {:.2f} images/s on {} rank{} of {} thread{}\n", s.seconds,
                      s.seconds > 0 ? static_cast<double>(counts.images()) / s.seconds : 0, s.ranks, s.ranks > 1 ? "s" : "",
                      s.threads, s.threads > 1 ? "s" : "");
  text += fmt::format("in {} on {}\n", s.precision, s.device);
  if (!s.posteriors.empty()) text += fmt::format("posteriors in {}\n", s.posteriors);
  return text;
}

std::string PerClassText(const TestCounts& counts, const std::vector<ClassInfo>& classes) {
  std::string text =
      fmt::format("\n{:>6}  {:<{}}  {:>7}  {:>7}  {:>7}\n", "class", "name", kNameColumns, "images", "top-1", "top-5");
  for (int c = 0; c < counts.classes(); ++c) {
    const int64_t images = counts.class_images(c);
    const auto share = [images](int64_t correct) {
      return images > 0 ? fmt::format("{:.1f}%", Percent(static_cast<double>(correct) / static_cast<double>(images))) : "-";
    };
    text += fmt::format("{:>6}  {:<{}}  {:>7}  {:>7}  {:>7}\n", c, ClassName(classes[static_cast<size_t>(c)]), kNameColumns, images,
                        share(counts.class_correct1(c)), share(counts.class_correct5(c)));
  }
  return text + (counts.classes() <= kMatrixClasses ? MatrixText(counts) : ConfusionsText(counts, classes));
}

}  // namespace plateau
