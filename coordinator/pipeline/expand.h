// From a pipeline's document to a checked plan of jobs. Pure.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "coordinator/pipeline/pipeline.h"

namespace plateau {

// The document (kind: pipeline): version, name, output, scale_factor; sections of job specifications that all its jobs take as
// defaults (train: model, data, training, lr, validation, checkpoint; evaluate: evaluate; both: resources, fault, reproducibility);
// jobs {NAME: {kind, the same sections, depends_on, report}}, whose own fields win; fusions {NAME: {of, report}}. References between
// jobs (model.init_from.job, evaluate.job, depends_on) are names of this pipeline. An evaluation without a store tests data.store.
//
// scale_factor (a number, or "1/7") multiplies data.crop, data.train_scale, validation.scale and evaluate.scales alike, to the nearest
// whole number: 224, 256, 288, 384, 512 become 32, 37, 41, 55, 73 at 1/7.
//
// Errors begin with `where` and name the job and field: "request body: jobs.d-384: lr.initial: ...". Unknown names are refused with
// the nearest known one, circles with their jobs. `force` is ParseJobSpecJson's.
Result<PipelinePlan> ExpandPipeline(const nlohmann::json& document, const std::string& where, bool force);

}  // namespace plateau
