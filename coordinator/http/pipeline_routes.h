// REST for pipelines: /v1/pipelines, /v1/pipelines/{id}, and its commands.
#pragma once

#include "common/file.h"
#include "coordinator/http/api_message.h"
#include "coordinator/pipeline/pipeline_service.h"

namespace plateau {

bool IsPipelineRoute(const ApiRequest& request);
void AnswerPipelines(PipelineService& pipelines, FileSystem& files, const ApiRequest& request, ApiRespond respond);

}  // namespace plateau
