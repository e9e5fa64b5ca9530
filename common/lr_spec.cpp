// The section lr: a policy, its own fields, and the warm-up.
#include <cmath>

#include "common/spec_sections.h"

namespace plateau {
namespace {

void ReadSteps(SpecReader& reader, const char* field, Interval& out) {
  ReadInterval(reader, field, "lr", out);
  if (out.unit == Interval::Unit::kSeconds)
    reader.Refuse(field, IntervalText(out) + " is a time; the rate is a function of the step: write epochs (5ep) or iterations (500it)");
}

// Fields that only some policies have are refused with the others, so that none is given in vain.
void ReadScheduleFields(SpecReader& reader, LrPolicy& lr) {
  const auto belongs = [&](const char* field, bool here, const char* policies) {
    if (reader.Value(field) != nullptr && !here)
      reader.Refuse(field, fmt::format("belongs to policy {}, and this one is {}; leave it out", policies, LrKindName(lr.kind)));
  };
  const bool poly = lr.kind == LrKind::kPoly, cosine = lr.kind == LrKind::kCosine;
  belongs("every", lr.kind == LrKind::kStep, "step");
  belongs("power", poly, "poly");
  belongs("final", poly || cosine, "poly or cosine");
  ReadSteps(reader, "every", lr.every);
  reader.Real("power", 0.01, 100, lr.power);
  reader.Real("final", 0, 1e6, lr.final);
  if (lr.final > lr.initial) reader.Refuse("final", fmt::format("{:g} is more than lr.initial ({:g}); the rate falls", lr.final, lr.initial));
  if (reader.Value("warmup") != nullptr) {
    lr.warmup.emplace();
    ReadSteps(reader, "warmup", *lr.warmup);
  }
  if (reader.Value("warmup_from") != nullptr && !lr.warmup)
    reader.Refuse("warmup_from", "there is no lr.warmup; give its length (warmup: 5ep), or leave this out");
  reader.Real("warmup_from", 0, 1, lr.warmup_from);
}

}  // namespace

Status ReadLr(SpecReader reader, JobSpec& spec) {
  auto& lr = spec.lr;
  reader.Real("initial", 1e-12, 1e6, lr.initial);
  std::string policy = "plateau";
  reader.Choice("policy", {"plateau", "step", "poly", "cosine", "constant"}, policy);
  lr.kind = *LrKindFromName(policy);
  reader.Choice("metric", {"val_top1_error", "val_top5_error", "val_loss"}, spec.lr_metric);
  reader.Real("factor", 1e-6, 0.999999, lr.factor);
  reader.Integer("patience", 0, 1000000, lr.patience);
  reader.Real("threshold", 0, 0.999999, lr.threshold);
  reader.Integer("cooldown", 0, 1000000, lr.cooldown);
  reader.Integer("max_decays", 0, 1000, lr.max_decays);
  ReadScheduleFields(reader, lr);
  return reader.Finish();
}

nlohmann::ordered_json LrToJson(const JobSpec& spec) {
  const auto& lr = spec.lr;
  nlohmann::ordered_json out{{"initial", lr.initial},     {"policy", LrKindName(lr.kind)}, {"metric", spec.lr_metric},
                             {"factor", lr.factor},       {"patience", lr.patience},       {"threshold", lr.threshold},
                             {"cooldown", lr.cooldown},   {"max_decays", lr.max_decays}};
  if (lr.kind == LrKind::kStep) out["every"] = IntervalText(lr.every);
  if (lr.kind == LrKind::kPoly) out["power"] = lr.power;
  if (lr.kind == LrKind::kPoly || lr.kind == LrKind::kCosine) out["final"] = lr.final;
  if (lr.warmup) out.update({{"warmup", IntervalText(*lr.warmup)}, {"warmup_from", lr.warmup_from}});
  return out;
}

}  // namespace plateau
