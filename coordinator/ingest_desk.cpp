// One thread, one queue, one ingest's works.
#include "coordinator/ingest_desk.h"

#include "common/log.h"

namespace plateau {

IngestDesk::IngestDesk(FileSystem& files, const Clock& clock, const Dataset& dataset, std::function<void(DatasetEvent)> result,
                       std::function<void()> closed)
    : works_(files, clock, dataset, leaving_), result_(std::move(result)), closed_(std::move(closed)), thread_([this] { Run(); }) {}

IngestDesk::~IngestDesk() {
  {
    const std::lock_guard lock(mutex_);
    leaving_ = true;
  }
  ready_.notify_one();
  thread_.join();
}

void IngestDesk::Post(Work work) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(work));
  }
  ready_.notify_one();
}

void IngestDesk::Run() {
  for (;;) {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [this] { return leaving_ || !queue_.empty(); });
    if (leaving_) return;
    const Work work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    std::visit([this](const auto& one) { Serve(one); }, work);
  }
}

void IngestDesk::Serve(const PlanStore&) {
  auto planned = works_.Plan();
  if (planned) return result_(std::move(*planned));
  if (!leaving_) result_(DatasetBroken{std::move(planned.error())});
}

void IngestDesk::Serve(const Reopen& reopen) {
  if (auto opened = works_.Reopen(reopen.plan_checksum, reopen.finishing); !opened)
    result_(DatasetBroken{std::move(opened.error())});
}

void IngestDesk::Serve(const PlaceShard& place) {
  auto placed = works_.Place(place);
  if (placed) return result_(*placed);
  result_(ShardMisplaced{place.task, place.lease, placed.error().message});
}

void IngestDesk::Serve(const DropLease& drop) { works_.Drop(drop.lease); }

void IngestDesk::Serve(const Finish& finish) {
  auto finished = works_.Finish(finish.overflow, finish.overflow_lease);
  if (finished) return result_(std::move(*finished));
  result_(DatasetBroken{std::move(finished.error())});
}

void IngestDesk::Serve(const CloseStore&) {
  works_.Close();
  closed_();
}

}  // namespace plateau
