// Writes checkpoints in the background.
#include "worker/train/checkpoint_saver.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstring>

#include "common/log.h"
#include "common/text.h"

namespace plateau {
namespace {

constexpr int kNice = 10;              // a tenth of a core beside a thread that computes; an idle core otherwise
constexpr int kIoClassBestEffort = 2;  // <linux/ioprio.h>
constexpr int kIoClassShift = 13;
constexpr int kIoWhoProcess = 1;
constexpr int kLowestIoLevel = 7;

double SecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The calling thread leaves the rank's cores to those that compute: launchers bind a rank to as many cores as it has computing
// threads, and this one may use any other that idles. A kernel that refuses costs speed, nothing else.
void StepAside() {
  const auto thread = static_cast<id_t>(::syscall(SYS_gettid));
  (void)::setpriority(PRIO_PROCESS, thread, kNice);
  (void)::syscall(SYS_ioprio_set, kIoWhoProcess, thread, (kIoClassBestEffort << kIoClassShift) | kLowestIoLevel);
  cpu_set_t every;
  std::memset(&every, 0xFF, sizeof(every));
  (void)::sched_setaffinity(0, sizeof(every), &every);
}

}  // namespace

Result<SavePause> CheckpointSaver::Save(CheckpointState state, int64_t order) {
  PLATEAU_ASSIGN(const SavePause pause, Take(state.train.step));
  writing_step_ = state.train.step;
  writing_ = std::async(std::launch::async, [this, state = std::move(state), order] {
    StepAside();
    Status written = [&]() -> Status {
      try {
        return WriteAndPublish(state, false, order);
      } catch (const std::exception& fault) {  // memory, a socket: the loop must hear of it
        return Fail(ErrorCode::kInternal, "the checkpoint of step {} was not written: {}", state.train.step, fault.what());
      }
    }();
    if (!written) failed_.store(true);
    return written;
  });
  return pause;
}

Result<SavePause> CheckpointSaver::SaveNow(CheckpointState state, bool final, int64_t order) {
  PLATEAU_ASSIGN(const SavePause pause, Take(state.train.step));
  PLATEAU_TRY(WriteAndPublish(state, final, order));
  return pause;
}

Result<SavePause> CheckpointSaver::Take(int64_t step) {
  SavePause pause;
  auto begin = std::chrono::steady_clock::now();
  const bool waits = writing();
  if (waits) LogInfo("the checkpoint of step {} waits: that of step {} is still being written", step, writing_step_);
  PLATEAU_TRY(Wait());
  if (waits) {
    pause.waited_s = SecondsSince(begin);
    LogWarning("training waited {} for the checkpoint of step {}: a longer checkpoint.every or faster storage would spare that",
               HumanDuration(pause.waited_s), writing_step_);
  }
  begin = std::chrono::steady_clock::now();
  snapshot_.Take();
  pause.snapshot_s = SecondsSince(begin);
  return pause;
}

Status CheckpointSaver::WriteAndPublish(const CheckpointState& state, bool final, int64_t order) {
  const auto begin = std::chrono::steady_clock::now();
  PLATEAU_ASSIGN(const auto written, WriteCheckpoint(files_, attempt_folder_, snapshot_, state, &pulse_.progress));
  PLATEAU_TRY(authority_.Publish(written, state, final, order));
  LogInfo("checkpoint {} written: {} in {}", written.folder, HumanBytes(written.bytes), HumanDuration(SecondsSince(begin)));
  return {};
}

bool CheckpointSaver::writing() const {
  return writing_.valid() && writing_.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
}

Status CheckpointSaver::Wait() {
  if (!writing_.valid()) return {};
  return writing_.get();
}

}  // namespace plateau
