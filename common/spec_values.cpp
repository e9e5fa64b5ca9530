// Values of a form of their own in a specification: intervals, durations, schemes, names, paths.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <filesystem>

#include "common/spec_sections.h"
#include "common/text.h"

namespace plateau {
namespace {

using nlohmann::json;

constexpr double kHuge = 1e12;

constexpr std::array<const char*, 4> kModes{"dense", "multicrop", "both", "center"};  // by EvaluationMode

// "1ep", "500it", "30m".
Result<Interval> ParseInterval(const json& value, const std::string& field) {
  const auto refuse = [&] {
    return Fail(ErrorCode::kInvalidInput, "{}: {} is not an interval; write epochs (1ep), iterations (500it) or a time (30m, 90s, 2h)", field,
                value.dump());
  };
  if (!value.is_string()) return refuse();
  const std::string text = value.get<std::string>();
  double amount = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), amount);
  if (error != std::errc() || !(amount > 0) || !std::isfinite(amount)) return refuse();
  const std::string unit(rest, text.data() + text.size());
  if (unit == "ep") return Interval{Interval::Unit::kEpochs, amount};
  if (unit == "it") return std::floor(amount) == amount ? Result<Interval>(Interval{Interval::Unit::kIterations, amount}) : refuse();
  auto seconds = ParseDuration(text, field);
  if (!seconds) return refuse();
  return Interval{Interval::Unit::kSeconds, *seconds};
}

}  // namespace

void ReadInterval(SpecReader& reader, const char* field, const std::string& where, Interval& out) {
  if (const auto* value = reader.Value(field)) {
    auto interval = ParseInterval(*value, where + "." + field);
    if (interval) out = *interval;
    else reader.Refuse(field, interval.error().message.substr(interval.error().message.find(": ") + 2));
  }
}

void ReadPrecision(SpecReader& reader, std::optional<Precision>& out) {
  std::string text = "auto";
  reader.Choice("precision", {"auto", "fp32", "tf32", "bf16"}, text);
  out = *ParsePrecision(text, "precision");
}

const char* PrecisionText(const std::optional<Precision>& precision) { return precision ? PrecisionName(*precision) : "auto"; }

std::string WrongPrecision(const std::optional<Precision>& precision, DeviceKind device) {
  if (device != DeviceKind::kCpu || !precision || *precision == Precision::kFp32) return "";
  return fmt::format("{} with resources.device: cpu: the CPU computes in fp32; leave the field out, or use device: cuda",
                     PrecisionName(*precision));
}

Result<double> ParseDuration(std::string_view text, const std::string& field) {
  double amount = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), amount);
  const std::string_view unit(rest, static_cast<size_t>(text.data() + text.size() - rest));
  const double factor = unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : unit == "d" ? 86400 : 0;
  if (error != std::errc() || factor == 0 || !(amount > 0) || amount * factor > kHuge)
    return Fail(ErrorCode::kInvalidInput, "{}: \"{}\" is not a duration; write a number and a unit: 90s, 30m, 2h or 1.5d", field, text);
  return amount * factor;
}

std::string IntervalText(const Interval& interval) {
  switch (interval.unit) {
    case Interval::Unit::kEpochs: return fmt::format("{}ep", interval.amount);
    case Interval::Unit::kIterations: return fmt::format("{}it", static_cast<int64_t>(interval.amount));
    case Interval::Unit::kSeconds: return fmt::format("{}s", interval.amount);
  }
  return "1ep";
}

std::string InitSchemeText(const InitScheme& init) {
  switch (init.kind) {
    case InitScheme::Kind::kHe: return "he";
    case InitScheme::Kind::kGlorot: return "glorot";
    case InitScheme::Kind::kGaussian: return fmt::format("gaussian({})", init.sigma);
  }
  return "he";
}

Result<InitScheme> ParseInitScheme(std::string_view text, const std::string& field) {
  if (text == "he") return InitScheme{InitScheme::Kind::kHe};
  if (text == "glorot") return InitScheme{InitScheme::Kind::kGlorot};
  if (text == "gaussian") return InitScheme{InitScheme::Kind::kGaussian};
  constexpr std::string_view kFront = "gaussian(";
  if (text.starts_with(kFront) && text.ends_with(")")) {
    double sigma = 0;
    const char* end = text.data() + text.size() - 1;
    const auto [rest, error] = std::from_chars(text.data() + kFront.size(), end, sigma);
    if (error == std::errc() && rest == end && sigma > 0 && sigma < 100) return InitScheme{InitScheme::Kind::kGaussian, sigma};
  }
  return Fail(ErrorCode::kInvalidInput, "{}: \"{}\" is not an initialisation; use he, glorot or gaussian(0.01)", field, text);
}

const char* EvaluationModeName(EvaluationMode mode) { return kModes[static_cast<size_t>(mode)]; }

Result<EvaluationMode> ParseEvaluationMode(const std::string& text, const std::string& field) {
  for (size_t i = 0; i < kModes.size(); ++i)
    if (text == kModes[i]) return static_cast<EvaluationMode>(i);
  return Fail(ErrorCode::kInvalidInput, "{}: \"{}\" is not a mode; use dense, multicrop, both or center", field, text);
}

const char* CheckpointPickName(CheckpointPick pick) { return pick == CheckpointPick::kBest ? "best" : "final"; }

const char* DependencyConditionName(DependencyCondition condition) {
  switch (condition) {
    case DependencyCondition::kCompleted: return "completed";
    case DependencyCondition::kEnded: return "ended";
    case DependencyCondition::kFailed: return "failed";
  }
  return "completed";
}

std::vector<Dependency> AllDependencies(const JobSpec& spec) {
  std::vector<Dependency> all = spec.depends_on;
  const auto add = [&all](const std::string& job) {
    const auto same = [&job](const Dependency& one) { return one.job == job; };
    if (!job.empty() && std::none_of(all.begin(), all.end(), same)) all.push_back({job, DependencyCondition::kCompleted});
  };
  if (spec.model.init_from) add(spec.model.init_from->job);
  add(spec.evaluate.job);
  return all;
}

RunLength LengthOf(const JobSpec& spec, int64_t images) {
  const int64_t batch = spec.training.global_batch;
  const int64_t steps = (images * spec.training.max_epochs + batch - 1) / batch;
  return {images, batch, spec.training.max_steps ? std::min(steps, *spec.training.max_steps) : steps};
}

std::string Absolute(const std::string& path) {
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error).lexically_normal().string();
  return error ? path : absolute.size() > 1 && absolute.back() == '/' ? absolute.substr(0, absolute.size() - 1) : absolute;
}

}  // namespace plateau
