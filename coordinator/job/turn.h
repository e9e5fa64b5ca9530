// One turn of the state machine under construction: what machine.cpp and worker_turn.cpp share.
#pragma once

#include "coordinator/job/hosts.h"
#include "coordinator/job/machine.h"

namespace plateau {

class Turn {
 public:
  Turn(Job job, Moment now, const MachineLimits& limits) : now_(now), limits_(limits) { out_.job = std::move(job); }

  // machine.cpp: the life of the job.
  void On(const Submitted&);
  void On(const StartGranted&);
  void On(const Launched&);
  void On(const LaunchFailed&);
  void On(const AttemptExited&);
  void On(const StopRequested&);
  void On(const ResumeRequested&);
  void On(const CheckpointRequested&);
  void On(const TimerFired&);
  void On(const Recovered&);
  // wait_turn.cpp: why it does not start yet, or not there.
  void On(const HoldPlaced&);
  void On(const WaitNoted&);
  void On(const DependenciesJudged&);
  // external_turn.cpp: attempts of the user's own mpirun.
  void On(const AttemptRegistered&);
  // worker_turn.cpp: what workers say, and their checkpoints.
  void On(const WorkerSaid&);
  void On(const CheckpointVerified&);
  void On(const CheckpointRejected&);
  void On(const CheckpointPublished&);

  Outcome Take() { return std::move(out_); }

 private:
  using Fields = std::vector<std::pair<std::string, EventValue>>;

  Job& job() { return out_.job; }
  void Record(std::string type, std::string message, Fields fields = {});
  void Do(JobAction action);
  void Refuse(std::string why) { out_.refusal = std::move(why); }
  bool IsCurrent(int attempt) const;
  void Kill();
  void End(JobState state, std::string reason, std::string message);
  void EndAttempt(const std::string& reason, const std::string& message, int exit_code);
  void RestartOrFail(const std::string& reason, const std::string& why);
  std::string NoteMissingGpu(const Sender& sender, const std::string& why);
  bool LostNewGpus() const;
  void LookForOtherGpus();
  void CheckHeartbeats();
  void ConvictHosts(const std::vector<SilentHost>& hosts);
  void DoubtHostsOfEnd();
  void ArmWorkers();
  void ArmTimeLimit(int64_t already_ms);
  void AskToLeave(StopTarget target, std::string reason, std::string message);
  void EndStopped(const std::string& how);
  std::string StoppedHow();
  void Sweep(bool attempt_runs);
  std::string WhyNotRegistered(const AttemptRegistered& event);
  bool IsExternal() const { return out_.job.Current() != nullptr && out_.job.Current()->external; }
  void EndExternal(const std::string& how);
  void LeaveExternal(const std::string& reason, const std::string& why);
  void RefuseResume();
  bool AnswerFarewell(const WorkerSaid& event);

  void Said(const Sender& sender, const Heartbeat& message);
  void Said(const Sender& sender, const Metrics& message);
  void Said(const Sender& sender, const ValidationReport& message);
  void Said(const Sender& sender, const CheckpointReport& message);
  void Said(const Sender& sender, const Finished& message);
  void Said(const Sender& sender, const Failed& message);
  void Said(const Sender& sender, const Register& message);
  void RepeatDecision(const ValidationReport& message);
  void Publish();

  Outcome out_;
  Moment now_;
  const MachineLimits& limits_;
};

// Of a rank whose granted GPU does not answer, and of an attempt that ended for it.
inline constexpr const char* kNoGpu = "NO_GPU";

// Takes the same time wherever the texts differ; false for empty ones.
bool SameSecret(const std::string& a, const std::string& b);

}  // namespace plateau
