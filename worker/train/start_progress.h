// What happens in front of the first step, as log, heartbeat and signals know it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/clock.h"
#include "common/progress.h"
#include "worker/nn/start_watch.h"
#include "worker/train/pulse.h"

namespace plateau {

// Puts each stretch, also one behind the start such as a test's next size of images, into the pulse's phase ("start: joining NCCL") and
// its pieces into the pulse's progress, so that the coordinator sees a start that moves. The one that speaks says how far a long stretch
// is: a redrawn line on a terminal, else a log line every two seconds. Borrows all; outlives the engine it watches. Training thread only.
class StartProgress final : public StartWatch {
 public:
  struct Options {
    bool speaks = false;    // rank 0
    bool terminal = false;  // stderr is one
  };
  StartProgress(Pulse& pulse, const StopFlag& stop, const Clock& clock, const Options& options)
      : pulse_(pulse), stop_(stop), clock_(clock), options_(options) {}

  void Begin(const char* what, const char* pieces, int all) override;
  void Done(int pieces) override;
  void End() override;
  bool WantsStop() override;
  // The first step begins: from now on it hears nothing and wants nothing, since steps end themselves.
  void Close() { closed_ = true; }
  // Whether an engine was told to stop, and so may have given up.
  bool stopped() const { return stopped_; }

  static constexpr int64_t kSayEveryMs = 2000;

 private:
  void Say(int64_t now_ms);

  Pulse& pulse_;
  const StopFlag& stop_;
  const Clock& clock_;
  Options options_;
  const char* what_ = "";
  const char* before_ = "start";  // the phase around the stretch
  const char* pieces_ = "";
  int all_ = 0, done_ = 0;
  int64_t begun_ms_ = 0, said_ms_ = 0;
  std::unique_ptr<Progress> line_;  // on a terminal
  bool stopped_ = false, closed_ = false;
};

}  // namespace plateau
