// What the doors of the coordinator (REST now, others later) may ask of the house. The control loop answers.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/error.h"
#include "coordinator/job/job.h"

namespace plateau {

enum class JobCommand { kCancel, kPause, kResume, kCheckpoint };

class NodeService;
class PipelineService;

struct Submission {
  std::shared_ptr<const JobSpec> spec;
  std::string idempotency_key;  // empty: none
  std::string body_digest;      // identifies the request body for the key
};

struct SubmissionAnswer {
  std::shared_ptr<const Job> job;
  bool repeated = false;  // the key was known with the same body: this is the first job
};

struct Health {
  bool ok = true;
  size_t jobs = 0, running = 0, queued = 0;
  double oldest_event_s = 0;  // how long the oldest waiting event has waited for the control loop
};

// Thread-safe. Jobs are immutable snapshots. Callbacks run on the control loop's thread and must not block.
class Service {
 public:
  virtual ~Service() = default;
  // kConflict: the Idempotency-Key belongs to another body. kIo: the output folder or the state cannot be written.
  virtual void Submit(Submission submission, std::function<void(Result<SubmissionAnswer>)> answer) = 0;
  // kNotFound: no such job. kConflict: its state does not allow the command.
  virtual void Command(const std::string& id, JobCommand command,
                       std::function<void(Result<std::shared_ptr<const Job>>)> answer) = 0;
  virtual std::shared_ptr<const Job> Find(const std::string& id) const = 0;  // null: no such job
  virtual std::vector<std::shared_ptr<const Job>> All() const = 0;           // newest first
  // Stored JSON texts with sequence numbers in (after, ...], at most `limit`, oldest first.
  virtual Result<std::vector<std::string>> Events(const std::string& id, int64_t after, size_t limit) const = 0;
  // Stored JSON texts of the curve's points with step > after_step, oldest first.
  virtual Result<std::vector<std::string>> Points(const std::string& id, int64_t after_step) const = 0;
  virtual std::string LogFolder(const std::string& id, int attempt) const = 0;
  // `notice(job id)` is called after each new event of a job. One listener; set before the loop runs.
  virtual void OnEvent(std::function<void(const std::string& id)> notice) = 0;
  virtual NodeService& Nodes() = 0;
  virtual PipelineService& Pipelines() = 0;
  virtual Moment Now() const = 0;
  virtual Health CheckHealth() const = 0;
};

}  // namespace plateau
