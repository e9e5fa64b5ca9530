// Builds the shards of a plan on a few threads, and publishes the store.
#include "dataset/ingest.h"

#include <atomic>

#include "common/progress.h"
#include "dataset/ingest_finish.h"
#include "dataset/ingest_state.h"
#include "dataset/task_pool.h"

namespace plateau {
namespace {

// Builds every shard or takes it from the run before. `results` is by task.
Status BuildAll(FileSystem& files, const Clock& clock, const IngestPlan& plan, const IngestOptions& options, IngestState& state,
                RejectLog& rejects, std::vector<ShardResult>& results, IngestReport& report) {
  Progress progress({.label = "ingest " + StoreName(options), .unit = "images", .total = plan.Images(), .quiet = options.quiet},
                    clock);
  std::atomic<uint64_t> done{0}, handled{0}, reused{0};
  std::atomic<bool> stop{false};
  Status cause;
  const auto status = RunTasks(plan.tasks.size(), options.jobs, [&](uint64_t number) -> Status {
    const TaskPlan& task = plan.tasks[number];
    if (auto kept = state.Load(task.folder)) {
      for (const auto& image : kept->rejected) rejects.Add(task.split, image);
      results[number] = std::move(*kept);
      ++reused;
      progress.Update(done += plan.splits[task.split].layout.Slots(task.shard));
      return {};
    }
    const std::string building = state.BuildingFolder(task.folder);
    auto result = BuildShard(files, plan.Task(number, building), [&](const RejectedImage* rejected) -> Status {
      if (rejected != nullptr && !rejects.Add(task.split, *rejected)) stop = true;
      if (stop) return Fail(ErrorCode::kConflict, "stopped: another task failed");
      ++handled;
      progress.Update(++done);
      return {};
    });
    auto saved = result ? state.Save(task.folder, building, *result) : Status(Fail(result.error()));
    if (saved)
      results[number] = std::move(*result);
    else if (!stop.exchange(true))
      cause = saved;  // later ones only follow from it
    return saved;
  });
  progress.Finish(done);
  report.images = handled;
  report.reused_shards = reused;
  return cause ? status : cause;
}

}  // namespace

Result<IngestReport> Ingest(FileSystem& files, const Clock& clock, const DataSource& source, const IngestOptions& options) {
  const int64_t started_ms = clock.MonotonicMs();
  const IngestPlan plan = PlanIngest(source, options);
  PLATEAU_ASSIGN(auto state, IngestState::Open(files, options.out, plan.text, options.overwrite));
  RejectLog rejects = MakeRejectLog(plan, options.max_rejected);
  std::vector<ShardResult> results(plan.tasks.size());
  IngestReport report;
  if (const auto built = BuildAll(files, clock, plan, options, *state, rejects, results, report); !built) {
    if (const auto few_enough = rejects.Check(options.out); !few_enough) {
      PLATEAU_TRY(WriteRejected(files, rejects, options.out));
      return Fail(few_enough.error());
    }
    return Fail(built.error());
  }
  for (const auto& result : results) report.converted += result.converted;
  PLATEAU_ASSIGN(report.manifest, FinishIngest(files, clock, source, plan, options, results, rejects));
  PLATEAU_TRY(state->Close());
  report.seconds = static_cast<double>(clock.MonotonicMs() - started_ms) / 1000;
  return report;
}

}  // namespace plateau
