// What the doors of the coordinator may ask about pipelines. The control loop answers.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/job/service.h"
#include "coordinator/pipeline/pipeline.h"

namespace plateau {

struct PipelineSubmission {
  std::shared_ptr<const PipelinePlan> plan;
  std::string idempotency_key;  // empty: none
  std::string body_digest;      // identifies the request body for the key
};

// A pipeline with snapshots of its jobs, in its order.
struct PipelineView {
  std::shared_ptr<const Pipeline> pipeline;
  std::vector<std::shared_ptr<const Job>> jobs;
  bool repeated = false;  // the Idempotency-Key was known with the same body: this is the first one
};

// Thread-safe. Callbacks run on the control loop's thread and must not block.
class PipelineService {
 public:
  using Answer = std::function<void(Result<PipelineView>)>;
  virtual ~PipelineService() = default;
  // All of its jobs are stored at once, or none. kConflict: the Idempotency-Key belongs to another body. kInvalidInput: the output
  // folder cannot be written. kIo: the state cannot.
  virtual void SubmitPipeline(PipelineSubmission submission, Answer answer) = 0;
  // kCancel for every job that has not ended; kResume for every FAILED, CANCELLED and PAUSED one. kNotFound; kConflict: there is none.
  virtual void CommandPipeline(const std::string& id, JobCommand command, Answer answer) = 0;
  virtual std::optional<PipelineView> FindPipeline(const std::string& id) const = 0;
  virtual std::vector<PipelineView> AllPipelines() const = 0;  // newest first
};

}  // namespace plateau
