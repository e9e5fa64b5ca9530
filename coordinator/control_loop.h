// The one thread that changes jobs. Everything else only posts events; the pure parts decide, the store remembers, then actions
// run.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/file.h"
#include "coordinator/checkpoint_desk.h"
#include "coordinator/job/machine.h"
#include "coordinator/job/service.h"
#include "coordinator/launch/launcher.h"
#include "coordinator/link/link_server.h"
#include "coordinator/node/node_service.h"
#include "coordinator/node/prober.h"
#include "coordinator/node/registry.h"
#include "coordinator/pipeline/pipeline_service.h"
#include "coordinator/schedule/scheduler.h"
#include "coordinator/store/store.h"

namespace plateau {

struct ControlLoopOptions {
  std::string state_folder;  // attempts live in <state_folder>/jobs/<id>/attempt-<K>
  std::string worker;        // path of plateau-worker
  std::string mpirun = "mpirun";
  std::string link_endpoint;         // tcp://HOST:PORT given to the workers
  std::string join_token;            // what a user's own mpirun must know to register itself; empty: nobody may
  std::string remote_link_endpoint;  // given to workers on other hosts; empty: the link is for this machine only
  Cluster cluster{{NodeView{}}};     // this machine, but for its GPUs: all there is while no node is named
  RegistryOptions registry;
  std::vector<HostfileEntry> hostfile;  // empty: none was given
  std::string rsh_agent;                // mpirun's; empty: its own choice
  int machine_cores = 1;                // physical
  bool as_root = false;
  std::string scratch_base = "/dev/shm";
  MachineLimits limits;
  int64_t kill_grace_ms = 5'000;
};

// What the loop acts through. All outlive it; null members are allowed in tests that do not reach them.
struct ControlLoopHands {
  Launcher* launcher = nullptr;
  LinkServer* link = nullptr;
  CheckpointDesk* desk = nullptr;
  Prober* prober = nullptr;
};

// 128 random bits as text.
std::string NewToken();

class ControlLoop final : public Service, public NodeService, public PipelineService {
 public:
  ControlLoop(ControlLoopOptions options, Store& store, FileSystem& files, const Clock& clock);

  // Reads the store and takes up every unfinished job again. Once, before the first Turn. `hands` complete the construction.
  // kConflict: there are nodes on other machines, and no link that they could reach.
  Status Recover(ControlLoopHands hands, std::string link_endpoint, std::string remote_link_endpoint = {});
  // Serves until Stop. The loop's thread.
  void Run();
  void Stop();
  // Handles what is queued and due, without waiting. For tests, instead of Run.
  void Turn();
  // Monotonic time at which Run acts again even if nothing is posted; nothing: it waits for posts alone. The loop's thread.
  std::optional<int64_t> NextWakeMs() const;

  // Thread-safe doors. Post(LinkMessage): false when kMaxQueued messages wait.
  bool Post(LinkMessage message);
  void Post(const ExitNotice& notice);
  void Post(const std::string& job, JobEvent event);
  void Post(const ProbeAnswer& answer);

  void Submit(Submission submission, std::function<void(Result<SubmissionAnswer>)> answer) override;
  void Command(const std::string& id, JobCommand command, std::function<void(Result<std::shared_ptr<const Job>>)> answer) override;
  std::shared_ptr<const Job> Find(const std::string& id) const override;
  std::vector<std::shared_ptr<const Job>> All() const override;
  Result<std::vector<std::string>> Events(const std::string& id, int64_t after, size_t limit) const override;
  Result<std::vector<std::string>> Points(const std::string& id, int64_t after_step) const override;
  std::string LogFolder(const std::string& id, int attempt) const override;
  void OnEvent(std::function<void(const std::string&)> notice) override { notice_ = std::move(notice); }
  void AddNode(const std::string& name, int cores, const std::string& gpus, NodeService::Answer answer) override;
  void RemoveNode(const std::string& name, NodeService::Answer answer) override;
  std::vector<NodeStatus> ListNodes() const override;
  NodeService& Nodes() override { return *this; }
  void SubmitPipeline(PipelineSubmission submission, PipelineService::Answer answer) override;
  void CommandPipeline(const std::string& id, JobCommand command, PipelineService::Answer answer) override;
  std::optional<PipelineView> FindPipeline(const std::string& id) const override;
  std::vector<PipelineView> AllPipelines() const override;
  PipelineService& Pipelines() override { return *this; }
  Moment Now() const override { return {clock_.NowMs(), clock_.MonotonicMs()}; }
  Health CheckHealth() const override;

  static constexpr size_t kMaxQueued = 65'536;
  static constexpr int64_t kStoreRetryMs = 1'000;  // until an event is tried again that the store could not take

 private:
  struct SubmitRequest {
    Submission submission;
    std::function<void(Result<SubmissionAnswer>)> answer;
  };
  struct CommandRequest {
    std::string job;
    JobCommand command;
    std::function<void(Result<std::shared_ptr<const Job>>)> answer;
  };
  struct JobNews {
    std::string job;
    JobEvent event;
  };
  struct NodeRequest {
    std::string name;
    int cores = 0;
    std::string gpus;
    bool remove = false;
    NodeService::Answer answer;
  };
  struct PipelineRequest {
    std::string id;
    JobCommand command = JobCommand::kCancel;
    PipelineSubmission submission;  // without a plan: the command
    PipelineService::Answer answer;
  };
  using Item = std::variant<LinkMessage, JobNews, SubmitRequest, CommandRequest, NodeRequest, PipelineRequest, ProbeAnswer>;
  struct Queued {
    Item item;
    int64_t posted_ms;
  };
  struct Peer {
    std::string identity;
    uint64_t request = 0;
  };

  void Push(Item item);
  std::deque<Queued> Take();
  void WaitForWork();
  void HandleAll(std::deque<Queued> items);
  void Handle(LinkMessage& message);
  void Handle(JobNews& news);
  void Handle(SubmitRequest& request);
  void Handle(CommandRequest& request);
  void Handle(NodeRequest& request);
  void Handle(PipelineRequest& request);
  void Handle(ProbeAnswer& answer);
  void FireTimers(int64_t now_ms);
  void Schedule();
  Result<std::string> ClaimJobId(const JobSpec& spec);
  Result<std::string> FirstOf(const std::string& key, const std::string& digest) const;
  // control_pipelines.cpp
  Status RecoverPipelines();
  void SortAsSubmitted(std::vector<Job>& jobs) const;
  Result<std::string> ClaimPipelineId(const PipelinePlan& plan);
  Result<PipelineView> AddPipeline(const PipelineSubmission& submission);
  void HandleCommand(PipelineRequest& request);
  PipelineView ViewOf(const std::shared_ptr<const Pipeline>& pipeline) const;
  Status CheckDependencies(const JobSpec& spec) const;
  JobLookup Lookup() const;
  void JudgeWaiting();
  bool JudgeOne(const std::string& id);
  // registration.cpp: an error is answered with Refused.
  Status RegisterRun(const LinkMessage& message, const Register& run, const Peer& peer);
  Result<std::string> JobToRegister(const std::string& named, const JobSpec& spec);
  std::shared_ptr<const Job> FindRegistered(const std::string& key) const;
  std::string AttemptFolder(const std::string& id, int attempt) const;
  // The heart: advances the job, stores, shows the new snapshot, acts. The refusal of a command comes back as kConflict.
  Status Apply(const std::string& id, const JobEvent& event, Moment now, const Peer* peer = nullptr,
               const IdempotencyRecord* key = nullptr);
  void ApplyOrRetry(const std::string& id, const JobEvent& event);
  void Act(const Job& job, const JobAction& action, const Peer* peer);
  void Launch(const Job& job, int attempt);
  void Show(std::shared_ptr<const Job> job);
  // control_nodes.cpp
  Status RecoverNodes();
  Status CheckReach(const std::string& node) const;
  Status SaveNodes();
  void SaveNodesOrLog();
  Result<NodeStatus> PutNode(const std::string& name, int cores, const std::string& gpus);
  Result<NodeStatus> DropNode(const std::string& name);
  void DoubtNodes(const Job& job, const DoubtHosts& doubt);
  void TakeBack(const WithdrawGpu& withdrawn);
  void ProbeNodes();
  Cluster CurrentCluster() const;
  NodeStatus StatusOf(const Node& node) const;
  void EndHostWaits(const std::vector<std::shared_ptr<const Job>>& jobs, const Cluster& cluster, const Placement& placement);

  ControlLoopOptions options_;
  Store& store_;
  FileSystem& files_;
  const Clock& clock_;
  ControlLoopHands hands_;
  std::function<void(const std::string&)> notice_;

  mutable std::mutex queue_mutex_;
  std::condition_variable queue_ready_;
  std::deque<Queued> queue_;  // guarded by queue_mutex_
  bool stopping_ = false;     // guarded by queue_mutex_

  mutable std::mutex jobs_mutex_;  // guards the map; the loop's thread alone writes it
  std::map<std::string, std::shared_ptr<const Job>> jobs_;
  std::vector<std::string> order_;  // ids by creation; guarded by jobs_mutex_
  std::vector<Node> shown_nodes_;   // guarded by jobs_mutex_
  Node shown_here_;                 // guarded by jobs_mutex_
  std::vector<std::shared_ptr<const Pipeline>> pipelines_;  // by creation; guarded by jobs_mutex_

  // The loop's own.
  NodeRegistry registry_;
  std::deque<JobNews> follow_ups_;                                         // events that actions led to
  std::vector<std::pair<int64_t, JobNews>> retries_;                       // monotonic ms, event
  std::map<std::string, int64_t> timer_retries_;                           // job whose timer could not be stored: monotonic ms
  std::map<std::pair<std::string, std::string>, Peer> checkpoint_askers_;  // (job, path)
  int64_t schedule_again_ms_ = 0;
};

}  // namespace plateau
