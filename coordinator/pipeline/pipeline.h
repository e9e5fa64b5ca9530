// A pipeline: many jobs in one submission, and what its report makes of them. Values; nothing here does I/O.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/job_spec.h"
#include "coordinator/job/job.h"

namespace plateau {

// Posteriors of evaluations to be averaged by the report.
struct Fusion {
  std::string name;
  std::vector<std::string> of;  // names of evaluations in a plan, ids of jobs in a pipeline
  std::string report;           // JSON: the rows of the report's tables that it fills; "null": none
};

// What a document asks for, checked: every job a full specification whose references are still names within the pipeline.
struct PipelinePlan {
  struct Member {
    std::string name;
    JobSpec spec;
    std::string report;
  };
  std::string name, output;
  std::string document;  // as submitted, JSON
  double scale_factor = 1;
  std::vector<Member> jobs;  // dependencies before those that wait for them, otherwise by name
  std::vector<Fusion> fusions;
};

// A submitted one. Its jobs are ordinary jobs with the ids "<id>.<name>".
struct Pipeline {
  struct Member {
    std::string name, id, kind, report;
  };
  std::string id;  // "<name>-<n>"
  std::string name, output, document;
  double scale_factor = 1;
  int64_t created_ms = 0;  // Unix
  std::vector<Member> jobs;
  std::vector<Fusion> fusions;
};

// The plan under its id: references are ids of jobs. The specifications stand in the order of `jobs`.
struct PipelineInstance {
  Pipeline pipeline;
  std::vector<std::shared_ptr<const JobSpec>> specs;
};
PipelineInstance Instantiate(const PipelinePlan& plan, const std::string& id, int64_t now_ms);

// COMPLETED when all jobs are, or were not needed; RUNNING while one runs, can start or waits for others of which none is paused or too large; else FAILED,
// CANCELLED, PAUSED or HELD by the first of these that one of its jobs is; QUEUED before anything has started. `jobs` are those of the
// pipeline. HELD is not an end: a node that is added releases what was too large.
std::string PipelineStateName(std::span<const std::shared_ptr<const Job>> jobs);

// Stored form, and back. kCorrupt.
std::string PipelineRecordText(const Pipeline& pipeline);
Result<Pipeline> ParsePipelineRecord(std::string_view text);
// The object of GET /v1/pipelines/{id}; a summary lacks jobs, fusions and document.
std::string PipelineViewText(const Pipeline& pipeline, std::span<const std::shared_ptr<const Job>> jobs, bool summary);

}  // namespace plateau
