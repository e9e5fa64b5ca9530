// `plateau show`, `watch` and control commands where they are given a pipeline.
#pragma once

#include <string>

#include "coordinator/cli/context.h"

namespace plateau {

Status PrintPipeline(const CliContext& context, const std::string& id);
// Follows it until nothing of it can go on, one line for each change of one of its jobs, and sets context.exit_code: 0 COMPLETED,
// 1 otherwise. With context.json each change is a line {"job","state","reason","message"}, and the last line is the pipeline. Blocks; Ctrl-C leaves
// it running.
void FollowPipeline(CliContext& context, const std::string& id);
// POSTs /v1/pipelines/{id}/<action>: cancel or resume.
void RunPipelineAction(CliContext& context, const std::string& id, const std::string& action, bool follow);

}  // namespace plateau
