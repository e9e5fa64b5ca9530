// The one thread that changes ingests. Everything else only posts events; the pure board decides, the store remembers, then actions
// run.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "common/file.h"
#include "coordinator/ingest/dataset_service.h"
#include "coordinator/ingest_desk.h"
#include "coordinator/launch/launcher.h"
#include "coordinator/link/link_server.h"
#include "coordinator/store/store.h"

namespace plateau {

struct DatasetKey;

struct IngestLoopOptions {
  std::string state_folder;  // launched workers live in <state_folder>/datasets/<id>/worker-<slot>/attempt-<K>
  std::string worker;        // path of plateau-worker
  std::string token;         // that every ingest worker must show
  BoardLimits limits;
  int64_t kill_grace_ms = 5'000;
};

// What the loop acts through. All outlive its thread; null members are allowed in tests that do not reach them.
struct IngestLoopHands {
  Launcher* launcher = nullptr;
  LinkServer* link = nullptr;
};

class IngestLoop final : public DatasetService {
 public:
  IngestLoop(IngestLoopOptions options, Store& store, FileSystem& files, const Clock& clock);
  ~IngestLoop() override;  // Stop, and the desks' work under way is finished

  // Reads the store and takes up every unfinished ingest again. Once, before Start or Turn.
  Status Recover(IngestLoopHands hands, std::string link_endpoint);
  void Start();
  void Stop();
  // Handles what is queued and due, without waiting. For tests, instead of Start.
  void Turn();

  // Thread-safe doors. Post(IngestLinkMessage): false when kMaxQueued messages wait.
  bool Post(IngestLinkMessage message);
  // True when the notice was about a worker of an ingest.
  bool Post(const ExitNotice& notice);

  void SubmitDataset(DatasetSubmission submission, std::function<void(Result<DatasetAnswer>)> answer) override;
  void CancelDataset(const std::string& id, std::function<void(Result<std::shared_ptr<const Dataset>>)> answer) override;
  std::shared_ptr<const Dataset> FindDataset(const std::string& id) const override;
  std::vector<std::shared_ptr<const Dataset>> AllDatasets() const override;
  Result<std::vector<std::string>> DatasetEventTexts(const std::string& id, int64_t after, size_t limit) const override;
  void OnDatasetEvent(std::function<void(const std::string&)> notice) override { notice_ = std::move(notice); }
  Moment Now() const override { return {clock_.NowMs(), clock_.MonotonicMs()}; }

  static constexpr size_t kMaxQueued = 65'536;
  static constexpr size_t kMaxWaiters = 65'536;
  static constexpr int64_t kWaiterMs = 10'000;     // a worker that waits for a shard asks again well within this time
  static constexpr int64_t kStoreRetryMs = 1'000;  // until an event is tried again that the store could not take

 private:
  struct Peer {
    std::string identity;
    uint64_t request = 0;
  };
  struct News {
    std::string dataset;
    DatasetEvent event;
  };
  struct SubmitRequest {
    DatasetSubmission submission;
    std::function<void(Result<DatasetAnswer>)> answer;
  };
  struct CancelRequest {
    std::string dataset;
    std::function<void(Result<std::shared_ptr<const Dataset>>)> answer;
  };
  struct DeskClosed {
    std::string dataset;
  };
  using Item = std::variant<IngestLinkMessage, News, SubmitRequest, CancelRequest, DeskClosed>;
  struct Waiter {
    IngestLinkMessage message;
    int64_t heard_ms = 0;
  };

  void Run();
  void Push(Item item);
  void WaitForWork();
  void Handle(IngestLinkMessage& message);
  void Handle(News& news);
  void Handle(SubmitRequest& request);
  void Handle(CancelRequest& request);
  void Handle(DeskClosed& closed);
  void FireTimers();
  void ServeWaiters();
  // False: there is nothing for this worker now.
  bool Assign(const IngestLinkMessage& message);
  // Advances the ingest, stores, shows the new snapshot, acts. The refusal of a command comes back as kConflict.
  Status Apply(const std::string& id, const DatasetEvent& event, Moment now, const Peer* peer = nullptr,
               const DatasetKey* key = nullptr, bool* no_work = nullptr);
  void ApplyOrRetry(const std::string& id, const DatasetEvent& event);
  void Act(const Dataset& dataset, const DatasetAction& action, const Peer* peer);
  void Launch(const Dataset& dataset, const LaunchIngestWorker& launch);
  void Reply(const Peer& peer, const IngestReply& reply);
  IngestDesk& Desk(const Dataset& dataset);
  std::string WorkerFolder(const std::string& id, int slot, int attempt) const;
  void Show(std::shared_ptr<const Dataset> dataset);

  IngestLoopOptions options_;
  Store& store_;
  FileSystem& files_;
  const Clock& clock_;
  IngestLoopHands hands_;
  std::string link_endpoint_;
  std::function<void(const std::string&)> notice_;

  mutable std::mutex queue_mutex_;
  std::condition_variable queue_ready_;
  std::deque<Item> queue_;  // guarded by queue_mutex_
  bool stopping_ = false;   // guarded by queue_mutex_

  mutable std::mutex datasets_mutex_;  // guards the map; the loop's thread alone writes it
  std::map<std::string, std::shared_ptr<const Dataset>> datasets_;
  std::vector<std::string> order_;  // ids by creation; guarded by datasets_mutex_

  // The loop's own.
  std::vector<std::pair<int64_t, News>> retries_;                 // monotonic ms, event
  std::map<std::string, int64_t> timer_retries_;                  // ingest whose timer could not be stored: monotonic ms
  std::map<std::string, Waiter> waiters_;                         // by worker
  std::map<std::pair<std::string, int64_t>, Peer> built_askers_;  // (ingest, lease)
  std::map<std::string, std::unique_ptr<IngestDesk>> desks_;
  bool changed_ = false;  // something that waiters may profit from
  std::thread thread_;
};

}  // namespace plateau
