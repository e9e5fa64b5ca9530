// What the control loop does outside itself: new jobs, placements, launches, replies.
#include <algorithm>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/check.h"
#include "common/checksum.h"
#include "common/log.h"
#include "coordinator/control_loop.h"
#include "coordinator/job/device_need.h"
#include "coordinator/job/hosts.h"
#include "coordinator/launch/attempt_files.h"
#include "coordinator/launch/mpirun_command.h"

namespace plateau {

std::string NewToken() {
  unsigned char bytes[16];
  PLATEAU_CHECK(::getentropy(bytes, sizeof bytes) == 0);
  std::string token;
  for (const unsigned char byte : bytes) token += fmt::format("{:02x}", byte);
  return token;
}

// What was submitted first under this key, empty when nothing was. kConflict: with another body.
Result<std::string> ControlLoop::FirstOf(const std::string& key, const std::string& digest) const {
  if (key.empty()) return std::string();
  PLATEAU_ASSIGN(const auto known, store_.FindIdempotency(key));
  if (!known) return std::string();
  if (known->digest == digest) return known->job;
  return Fail(ErrorCode::kConflict, "Idempotency-Key '{}' was used before with another body, for job {}; use a new key for a new job", key,
              known->job);
}

void ControlLoop::Handle(SubmitRequest& request) {
  const Submission& submission = request.submission;
  const auto first = FirstOf(submission.idempotency_key, submission.body_digest);
  if (!first) return request.answer(Fail(first.error()));
  if (Find(*first) != nullptr) return request.answer(SubmissionAnswer{Find(*first), true});
  if (const auto known = CheckDependencies(*submission.spec); !known) return request.answer(Fail(known.error()));
  auto id = ClaimJobId(*submission.spec);
  if (!id) return request.answer(Fail(std::move(id.error())));
  Job fresh;
  fresh.id = *id;
  fresh.spec = submission.spec;
  Show(std::make_shared<const Job>(fresh));
  const IdempotencyRecord key{submission.idempotency_key, *id, submission.body_digest};
  auto applied = Apply(*id, Submitted{}, Now(), nullptr, key.key.empty() ? nullptr : &key);
  {
    const std::lock_guard lock(jobs_mutex_);
    if (applied)
      order_.push_back(*id);
    else
      jobs_.erase(*id);
  }
  if (!applied) return request.answer(Fail(std::move(applied.error())));
  request.answer(SubmissionAnswer{Find(*id), false});
}

// "<name>-<n>", n counting from 1, past every job and every output folder of that name: an old run's checkpoints are never taken
// over.
Result<std::string> ControlLoop::ClaimJobId(const JobSpec& spec) {
  if (const auto made = files_.MakeDirectories(spec.output); !made) {
    return Fail(ErrorCode::kInvalidInput,
                "request body: output: {}; choose a folder that the coordinator and the workers can write", made.error().message);
  }
  for (int number = 1;; ++number) {
    const std::string id = fmt::format("{}-{}", spec.name, number);
    const std::string folder = spec.output + "/" + id;
    if (Find(id) != nullptr || files_.Exists(folder)) continue;
    PLATEAU_TRY(files_.MakeDirectories(folder));
    return id;
  }
}

void ControlLoop::Schedule() {
  schedule_again_ms_ = 0;
  JudgeWaiting();
  std::vector<WaitingJob> waiting;
  std::vector<RunningJob> running;
  const auto all = All();
  for (size_t i = 0; i < all.size(); ++i) {
    const Job& job = *all[i];
    if (HasProcesses(job.state) && !job.Current()->external) running.push_back({job.id, job.Current()->shares});
    if (job.state != JobState::kQueued && job.state != JobState::kHeld) continue;
    if (IsDependencyReason(job.reason)) continue;
    const auto& resources = job.spec->resources;
    const DeviceNeed need = NeedOf(*job.spec);
    waiting.push_back({.id = job.id,
                       .priority = resources.priority,
                       .queued_ms = job.queued_ms,
                       .order = static_cast<int64_t>(all.size() - i),
                       .workers = resources.workers,
                       .min_workers = resources.min_workers,
                       .threads_per_worker = resources.threads_per_worker,
                       .delayed = job.not_before_ms > clock_.MonotonicMs(),
                       .held = job.state == JobState::kHeld,
                       .held_for = job.message,
                       .device = need.device,
                       .device_field = need.field});
  }
  if (waiting.empty()) return;
  const Cluster cluster = CurrentCluster();
  const Placement placement = Place(cluster, std::move(waiting), running, clock_.NowMs());
  const auto apply = [this](const std::string& id, const JobEvent& event) {
    auto applied = Apply(id, event, Now());
    if (applied) return;
    LogError("job {}: {}", id, applied.error().message);
    schedule_again_ms_ = clock_.MonotonicMs() + kStoreRetryMs;
  };
  for (const auto& hold : placement.holds) apply(hold.id, HoldPlaced{hold.reason, hold.message});
  for (const auto& wait : placement.waits)
    if (const auto job = Find(wait.id); job->reason != wait.reason || job->message != wait.message)
      apply(wait.id, WaitNoted{wait.reason, wait.message});
  for (const auto& start : placement.starts)
    apply(start.id, StartGranted{NewToken(), start.shares, "", DeviceKindName(start.device), start.why});
  EndHostWaits(all, cluster, placement);
}

void ControlLoop::Act(const Job& job, const JobAction& action, const Peer* peer) {
  if (const auto* launch = std::get_if<LaunchAttempt>(&action)) return Launch(job, launch->attempt);
  if (const auto* kill = std::get_if<KillAttempt>(&action)) {
    if (hands_.launcher != nullptr) hands_.launcher->Kill(job.id, kill->attempt, kill->save_traces);
    return;
  }
  if (const auto* reply = std::get_if<ReplyToWorker>(&action)) {
    if (hands_.link != nullptr && peer != nullptr) hands_.link->Reply(peer->identity, peer->request, reply->reply);
    return;
  }
  if (const auto* answer = std::get_if<AnswerCheckpoint>(&action)) {
    const auto asker = checkpoint_askers_.find({job.id, answer->path});
    if (asker == checkpoint_askers_.end()) return;
    if (hands_.link != nullptr) hands_.link->Reply(asker->second.identity, asker->second.request, answer->reply);
    checkpoint_askers_.erase(asker);
    return;
  }
  if (const auto* doubt = std::get_if<DoubtHosts>(&action)) return DoubtNodes(job, *doubt);
  if (const auto* withdrawn = std::get_if<WithdrawGpu>(&action)) return TakeBack(*withdrawn);
  if (hands_.desk == nullptr) return;
  CheckpointTask task{job.id, job.OutputFolder(), VerifyCheckpoint{}};
  if (const auto* verify = std::get_if<VerifyCheckpoint>(&action)) task.what = *verify;
  if (const auto* publish = std::get_if<PublishCheckpoint>(&action)) task.what = *publish;
  if (const auto* sweep = std::get_if<SweepAttempts>(&action)) task.what = *sweep;
  const bool repeated = !std::holds_alternative<SweepAttempts>(action);  // a sweep is made again with the next checkpoint
  if (!hands_.desk->Post(std::move(task)) && repeated)
    LogWarning("job {}: the checkpoint desk has no room; the worker's next report is taken", job.id);
}

void ControlLoop::Launch(const Job& job, int attempt) {
  auto spec = ResolveSources(*job.spec, Lookup());
  if (!spec) return follow_ups_.push_back({job.id, LaunchFailed{attempt, spec.error().message, false}});
  if (const auto device = ParseDeviceKind(job.Current()->device, "device"))
    spec->resources.device = *device;  // no rank decides otherwise
  const std::string folder = AttemptFolder(job.id, attempt);
  const auto& resources = job.spec->resources;
  const bool remote = !RemoteNodes(*job.Current()).empty();
  // What ranks on other hosts read and write lies with the job's output, which is on shared storage.
  const std::string shared = remote ? fmt::format("{}/attempt-{}", job.OutputFolder(), attempt) : folder;
  GangDescription gang{.job = job.id,
                       .attempt = attempt,
                       .verb = job.spec->kind,
                       .folder = folder,
                       .logs = shared + "/logs",
                       .mpirun = options_.mpirun,
                       .worker = options_.worker,
                       .spec_path = shared + "/spec.json",
                       .coordinator = remote ? options_.remote_link_endpoint : options_.link_endpoint,
                       .token = job.Current()->token,
                       .shares = job.Current()->shares,
                       .threads_per_worker = resources.threads_per_worker,
                       .machine_cores = options_.machine_cores,
                       .rsh_agent = options_.rsh_agent,
                       .as_root = options_.as_root};
  gang.scratch = fmt::format("{}/plateau-{}", options_.scratch_base, ChecksumText(Checksum(folder)));
  const auto launch = [&]() -> Result<int64_t> {
    if (hands_.launcher == nullptr) return Fail(ErrorCode::kInternal, "no launcher");
    if (options_.worker.empty() || !files_.Exists(options_.worker))
      return Fail(ErrorCode::kNotFound,
                  "{}: the worker program is not there; build it, or start the coordinator with --worker PATH", options_.worker);
    PLATEAU_TRY(files_.MakeDirectories(gang.logs));
    if (remote) {
      PLATEAU_TRY(CheckReach(RemoteNodes(*job.Current()).front()));
      PLATEAU_TRY(LinkLogs(folder, gang.logs));
    }
    PLATEAU_TRY(WriteFileAtomic(files_, gang.spec_path, JobSpecToJson(*spec).dump(1) + "\n"));
    LaunchRequest request = MpirunLaunch(gang);
    request.grace_ms = options_.kill_grace_ms;
    return hands_.launcher->Start(request);
  };
  auto supervisor = launch();
  if (supervisor)
    follow_ups_.push_back({job.id, Launched{attempt, *supervisor}});
  else
    follow_ups_.push_back({job.id, LaunchFailed{attempt, supervisor.error().message}});
}

}  // namespace plateau
