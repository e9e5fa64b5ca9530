// What the ingest loop does outside itself: new ingests, disk work, launches, replies.
#include <algorithm>
#include <cctype>
#include <unistd.h>

#include "common/check.h"
#include "common/log.h"
#include "coordinator/ingest_loop.h"
#include "coordinator/ingest_rows.h"
#include "coordinator/launch/ingest_command.h"

namespace plateau {
namespace {

// 32 random bits as text.
std::string NewTag() {
  uint32_t bits = 0;
  PLATEAU_CHECK(::getentropy(&bits, sizeof bits) == 0);
  return fmt::format("{:08x}", bits);
}

// A store's name may hold anything; an id stands in paths and URLs.
std::string IdName(const std::string& name) {
  std::string out;
  for (const char c : name) out += std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' ? c : '-';
  return out.empty() || out[0] == '.' ? "store" + out : out;
}

// What can be seen at once; the rest is found while the ingest is planned.
Status CheckPaths(FileSystem& files, const IngestOrder& order) {
  const SourceSpec& source = order.source;
  for (const auto& [field, path] : {std::pair{"train", source.train}, {"val", source.val}})
    if (!path.empty() && !files.Exists(path))
      return Fail(ErrorCode::kInvalidInput, "request body: source.{}: {} does not exist on the coordinator's machine", field, path);
  if (order.options.overwrite || !files.Exists(order.options.out + "/manifest.json")) return {};
  return Fail(ErrorCode::kConflict,
              "{}: is a finished store; choose another folder, or give --overwrite (\"overwrite\": true) to replace it",
              order.options.out);
}

}  // namespace

void IngestLoop::Handle(SubmitRequest& request) {
  const DatasetSubmission& submission = request.submission;
  if (!submission.idempotency_key.empty()) {
    auto known = FindDatasetKey(store_, submission.idempotency_key);
    if (!known) return request.answer(Fail(std::move(known.error())));
    if (*known && (*known)->digest != submission.body_digest)
      return request.answer(
          Fail(ErrorCode::kInvalidInput,
               "Idempotency-Key '{}' was used before with another body, for ingest {}; use a new key for a new ingest",
               submission.idempotency_key, (*known)->dataset));
    if (*known && FindDataset((*known)->dataset) != nullptr)
      return request.answer(DatasetAnswer{FindDataset((*known)->dataset), true});
  }
  if (auto checked = CheckPaths(files_, *submission.order); !checked) return request.answer(Fail(std::move(checked.error())));
  Dataset fresh;
  fresh.order = submission.order;
  fresh.tag = NewTag();
  const std::string name = IdName(StoreName(submission.order->options));
  for (int number = 1; fresh.id.empty() || FindDataset(fresh.id) != nullptr; ++number)
    fresh.id = fmt::format("{}-{}", name, number);
  const std::string id = fresh.id;
  Show(std::make_shared<const Dataset>(std::move(fresh)));
  const DatasetKey key{submission.idempotency_key, id, submission.body_digest};
  auto applied = Apply(id, Submitted{}, Now(), nullptr, key.key.empty() ? nullptr : &key);
  {
    const std::lock_guard lock(datasets_mutex_);
    if (applied)
      order_.push_back(id);
    else
      datasets_.erase(id);
  }
  if (!applied) return request.answer(Fail(std::move(applied.error())));
  request.answer(DatasetAnswer{FindDataset(id), false});
}

void IngestLoop::Handle(CancelRequest& request) {
  if (FindDataset(request.dataset) == nullptr)
    return request.answer(Fail(ErrorCode::kNotFound, "there is no ingest {}", request.dataset));
  if (auto applied = Apply(request.dataset, CancelRequested{}, Now()); !applied)
    return request.answer(Fail(std::move(applied.error())));
  request.answer(FindDataset(request.dataset));
}

void IngestLoop::Act(const Dataset& dataset, const DatasetAction& action, const Peer* peer) {
  if (const auto* answer = std::get_if<AnswerIngest>(&action)) {
    if (peer != nullptr) Reply(*peer, answer->reply);
  } else if (const auto* built = std::get_if<AnswerBuilt>(&action)) {
    const auto asker = built_askers_.find({dataset.id, built->lease});
    if (asker == built_askers_.end()) return;
    Reply(asker->second, built->reply);
    built_askers_.erase(asker);
  } else if (const auto* launch = std::get_if<LaunchIngestWorker>(&action)) {
    Launch(dataset, *launch);
  } else if (const auto* kill = std::get_if<KillIngestWorker>(&action)) {
    if (hands_.launcher != nullptr) hands_.launcher->Kill(IngestLaunchName(dataset.id, kill->slot), kill->attempt, false);
  } else if (std::holds_alternative<PlanStore>(action)) {
    Desk(dataset).Post(PlanStore{});
  } else if (std::holds_alternative<ReopenStore>(action)) {
    Desk(dataset).Post(IngestDesk::Reopen{dataset.plan_checksum, dataset.state == DatasetState::kFinishing && !dataset.overflow});
  } else if (const auto* place = std::get_if<PlaceShard>(&action)) {
    Desk(dataset).Post(*place);
  } else if (const auto* drop = std::get_if<DropLease>(&action)) {
    Desk(dataset).Post(*drop);
  } else if (const auto* finish = std::get_if<FinishStore>(&action)) {
    Desk(dataset).Post(IngestDesk::Finish{dataset.overflow, finish->overflow_lease});
  } else {
    std::erase_if(built_askers_, [&](const auto& one) { return one.first.first == dataset.id; });
    Desk(dataset).Post(CloseStore{});
  }
}

IngestDesk& IngestLoop::Desk(const Dataset& dataset) {
  auto& desk = desks_[dataset.id];
  if (desk == nullptr)
    desk = std::make_unique<IngestDesk>(
        files_, clock_, dataset,
        [this, id = dataset.id](DatasetEvent event) {
          Push(News{id, std::move(event)});
        },
        [this, id = dataset.id] { Push(DeskClosed{id}); });
  return *desk;
}

void IngestLoop::Launch(const Dataset& dataset, const LaunchIngestWorker& launch) {
  const std::string folder = WorkerFolder(dataset.id, launch.slot, launch.attempt);
  const auto start = [&]() -> Result<int64_t> {
    if (hands_.launcher == nullptr) return Fail(ErrorCode::kInternal, "no launcher");
    if (options_.worker.empty() || !files_.Exists(options_.worker))
      return Fail(ErrorCode::kNotFound,
                  "{}: the worker program is not there; build it, or start the coordinator with --worker PATH", options_.worker);
    PLATEAU_TRY(files_.MakeDirectories(folder + "/logs"));
    LaunchRequest request = IngestWorkerLaunch({.dataset = dataset.id,
                                                .slot = launch.slot,
                                                .attempt = launch.attempt,
                                                .folder = folder,
                                                .worker = options_.worker,
                                                .coordinator = link_endpoint_,
                                                .token = options_.token,
                                                .threads = dataset.order->options.jobs});
    request.grace_ms = options_.kill_grace_ms;
    return hands_.launcher->Start(request);
  };
  auto supervisor = start();
  if (supervisor)
    Push(News{dataset.id, IngestWorkerLaunched{launch.slot, launch.attempt, *supervisor}});
  else
    Push(News{dataset.id, IngestWorkerExited{launch.slot, launch.attempt, supervisor.error().message}});
}

void IngestLoop::Reply(const Peer& peer, const IngestReply& reply) {
  if (hands_.link != nullptr) hands_.link->Reply(peer.identity, peer.request, reply);
}

}  // namespace plateau
