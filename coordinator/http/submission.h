// From the body of POST /v1/jobs to a validated specification. No HTTP library, no coordinator: text in, specification or problem
// out.
#pragma once

#include <string>
#include <variant>

#include <nlohmann/json_fwd.hpp>

#include "common/file.h"
#include "coordinator/http/api_message.h"
#include "coordinator/job/service.h"
#include "coordinator/pipeline/pipeline_service.h"

namespace plateau {

// The JSON or YAML document of a body, parsed safely. 400 syntax and a key that is too long, 415 content type.
std::variant<nlohmann::json, ApiResponse> ReadDocument(const ApiRequest& request);

// 400 syntax (with line and column), 415 content type, 422 specification (with the field).
std::variant<Submission, ApiResponse> ReadSubmission(const ApiRequest& request, FileSystem& files);

// The same of a pipeline's document; all of its jobs are checked.
std::variant<PipelineSubmission, ApiResponse> ReadPipeline(const ApiRequest& request, FileSystem& files);

// The field that an error about a specification names: "request body: training.momentum: ..." -> "training.momentum", and
// "request body: jobs.b: lr.initial: ..." -> "jobs.b.lr.initial"; empty when none.
std::string SpecFieldOf(const std::string& message);

}  // namespace plateau
