// What an engine tells, and asks, in front of the first step: timing algorithms and joining the other ranks may take minutes, which
// must neither look like a hang nor keep a stop waiting.
#pragma once

#include <string>

#include "common/error.h"

namespace plateau {

// Training thread only, in every call.
class StartWatch {
 public:
  virtual ~StartWatch() = default;
  // A stretch of the start begins, of `all` pieces of work that are called `pieces` ("layers"); 0: its pieces are not known. Both are
  // literals; `what` as people read it: "timing algorithms", "joining NCCL".
  virtual void Begin(const char* what, const char* pieces, int all) = 0;
  virtual void Done(int pieces) = 0;  // of the stretch that began last, so far
  virtual void End() = 0;
  // Whether somebody wants the process to stop: the stretch then ends at once, with StartStopped. Asked often, so it is cheap.
  virtual bool WantsStop() = 0;
};

// The start was given up because the watch wanted it. A fault of its own, so that none of those who expect a fault and try something
// else holds it up.
class StartStopped final : public Failure {
 public:
  explicit StartStopped(const std::string& what)
      : Failure(ErrorCode::kConflict, what + " was given up: this process was asked to stop") {}
};

// A stretch, ended however it is left. `watch` may be null.
class StartStretch {
 public:
  StartStretch(StartWatch* watch, const char* what, const char* pieces = "", int all = 0) : watch_(watch), what_(what) {
    if (watch_ != nullptr) watch_->Begin(what, pieces, all);
  }
  ~StartStretch() {
    if (watch_ != nullptr) watch_->End();
  }
  StartStretch(const StartStretch&) = delete;
  StartStretch& operator=(const StartStretch&) = delete;
  void Done(int pieces) const {
    if (watch_ != nullptr) watch_->Done(pieces);
  }
  bool stopped() const { return watch_ != nullptr && watch_->WantsStop(); }
  // Throws StartStopped.
  void GoOn() const {
    if (stopped()) throw StartStopped(what_);
  }

 private:
  StartWatch* watch_;
  const char* what_;
};

}  // namespace plateau
