// A pipeline as REST shows it, read into plain fields, and how the command line draws it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "coordinator/cli/api_client.h"
#include "coordinator/cli/job_view.h"

namespace plateau {

struct PipelineRow {
  std::string id, name, state, created, ended;  // times: UTC, empty when absent
  std::map<std::string, int> counts;            // jobs by state

  int Jobs() const;
  int Completed() const;
  bool Rests() const;  // COMPLETED, FAILED, CANCELLED or PAUSED: nothing happens until somebody asks
};

// Missing and null fields keep their defaults.
PipelineRow ReadPipelineRow(const nlohmann::ordered_json& pipeline);

// The id of the pipeline that `text` means: an id, or the name of the only run of a pipeline. Empty: it means no pipeline.
std::string FindPipelineId(const ApiClient& client, const std::string& text);
std::string PipelinePath(const std::string& id, const std::string& tail = {});  // "/v1/pipelines/<id>" + tail

// "12 of 42 COMPLETED, 1 RUNNING, 29 QUEUED"
std::string CountsText(const PipelineRow& pipeline);
// The rows of `plateau jobs` for pipelines; empty when there is none.
std::string RenderPipelines(const Style& style, const std::vector<PipelineRow>& pipelines, int64_t now_ms);
// The page of `plateau show PIPELINE`: its jobs in order. `jobs` are those of the pipeline.
std::string RenderPipeline(const Style& style, const PipelineRow& pipeline, const std::vector<JobView>& jobs, int64_t now_ms);

}  // namespace plateau
