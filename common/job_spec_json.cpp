// A specification written out in full.
#include <nlohmann/json.hpp>

#include "common/spec_sections.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

Json TrainingToJson(const JobSpec& spec) {
  const auto& t = spec.training;
  Json training{{"global_batch", t.global_batch}, {"max_epochs", t.max_epochs}};
  if (t.max_steps) training["max_steps"] = *t.max_steps;
  training.update({{"momentum", t.momentum},
                   {"weight_decay", t.weight_decay},
                   {"weight_decay_bias", t.weight_decay_bias},
                   {"dropout", t.dropout},
                   {"init", InitSchemeText(t.init)},
                   {"micro_batch", t.micro_batch > 0 ? Json(t.micro_batch) : Json("auto")},
                   {"precision", PrecisionText(t.precision)}});
  return training;
}

Json ResourcesToJson(const JobSpec& spec) {
  const auto& r = spec.resources;
  Json resources{{"workers", r.workers},
                 {"min_workers", r.min_workers},
                 {"device", DeviceKindName(r.device)},
                 {"collective", CollectiveKindName(r.collective)},
                 {"threads_per_worker", r.threads_per_worker},
                 {"priority", r.priority}};
  if (r.time_limit_s > 0) resources["time_limit"] = fmt::format("{}s", r.time_limit_s);
  return resources;
}

// The sections of training alone.
void AddTrainSections(const JobSpec& spec, Json& out) {
  const auto& d = spec.data;
  const Json scale = d.train_scale_low == d.train_scale_high ? Json(d.train_scale_low) : Json{d.train_scale_low, d.train_scale_high};
  out["model"] = {{"network", spec.model.network}, {"width", spec.model.width}};
  if (spec.model.init_from) out["model"]["init_from"] = InitFromToJson(*spec.model.init_from);
  out["data"] = {{"store", d.store},
                 {"train_scale", scale},
                 {"crop", d.crop},
                 {"normalize", d.normalize == Normalize::kMean ? "mean" : "mean_std"},
                 {"augment", {{"flip", d.flip}, {"colour", d.colour}}}};
  out["training"] = TrainingToJson(spec);
  out["lr"] = LrToJson(spec);
  out["validation"] = {{"every", IntervalText(spec.validation.every)}, {"scale", spec.validation.scale}};
}

}  // namespace

nlohmann::ordered_json JobSpecToJson(const JobSpec& spec) {
  Json out{{"version", spec.version}, {"kind", spec.kind}, {"name", spec.name}, {"output", spec.output}};
  const bool trains = spec.kind == "train";
  if (trains) AddTrainSections(spec, out);
  else out["evaluate"] = EvaluationToJson(spec.evaluate);
  out["resources"] = ResourcesToJson(spec);
  if (trains)
    out["checkpoint"] = {{"every", IntervalText(spec.checkpoint.every)},
                         {"keep_last", spec.checkpoint.keep_last},
                         {"keep_best", spec.checkpoint.keep_best}};
  out["fault"] = {{"max_restarts", spec.fault.max_restarts}, {"hang_timeout", fmt::format("{}s", spec.fault.hang_timeout_s)}};
  out["reproducibility"] = {{"seed", spec.reproducibility.seed}, {"mode", spec.reproducibility.mode}};
  if (!spec.depends_on.empty()) out["depends_on"] = DependenciesToJson(spec.depends_on);
  return out;
}

}  // namespace plateau
