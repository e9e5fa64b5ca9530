// Phases, progress and log lines of a start.
#include "worker/train/start_progress.h"

#include <array>
#include <cstring>

#include "common/log.h"
#include "common/text.h"

namespace plateau {
namespace {

constexpr const char* kStart = "start";

// The pulse is read by another thread and holds literals only, so each stretch has one here.
const char* PhaseOf(const char* what) {
  constexpr std::array<const char*, 2> kPhases{"start: choosing algorithms", "start: joining NCCL"};
  for (const char* phase : kPhases)
    if (std::strcmp(phase + std::strlen("start: "), what) == 0) return phase;
  return kStart;
}

}  // namespace

void StartProgress::Begin(const char* what, const char* pieces, int all) {
  if (closed_) return;
  what_ = what;
  pieces_ = pieces;
  all_ = all;
  done_ = 0;
  begun_ms_ = said_ms_ = clock_.MonotonicMs();
  before_ = pulse_.phase.exchange(PhaseOf(what));
  ++pulse_.progress;
  if (options_.speaks && options_.terminal && all > 0)
    line_ = std::make_unique<Progress>(ProgressOptions{.label = what, .unit = pieces, .total = static_cast<uint64_t>(all)}, clock_);
}

void StartProgress::Done(int pieces) {
  if (closed_) return;
  done_ = pieces;
  ++pulse_.progress;
  if (line_) line_->Update(static_cast<uint64_t>(pieces));
  if (const int64_t now_ms = clock_.MonotonicMs(); !line_ && options_.speaks && now_ms - said_ms_ >= kSayEveryMs) Say(now_ms);
}

void StartProgress::Say(int64_t now_ms) {
  said_ms_ = now_ms;
  const double spent_s = static_cast<double>(now_ms - begun_ms_) / 1000;
  if (done_ == 0) return LogInfo("{}: 0/{} {} in {}", what_, all_, pieces_, HumanDuration(spent_s));
  LogInfo("{}: {}/{} {}  ETA {}", what_, done_, all_, pieces_, HumanDuration(spent_s * (all_ - done_) / done_));
}

void StartProgress::End() {
  if (closed_) return;
  if (line_ && done_ == all_) line_->Finish(static_cast<uint64_t>(all_));
  line_.reset();
  pulse_.phase = before_;
  ++pulse_.progress;
}

// Asked between pieces of a piece, so a piece that takes long is heard of too.
bool StartProgress::WantsStop() {
  if (closed_) return false;
  if (all_ > 0 && !stop_.raised()) Done(done_);
  stopped_ = stopped_ || stop_.raised();
  return stopped_;
}

}  // namespace plateau
