// A progress bar with rate and ETA on a terminal, a line now and then elsewhere.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/clock.h"

namespace plateau {

struct ProgressOptions {
  std::string label;        // "ingest train"
  std::string unit;         // "images"
  uint64_t total = 0;       // 0: unknown, no ETA
  bool quiet = false;       // --json or --quiet: prints nothing
};

// Writes to stderr: on a terminal one redrawn line, at most 10 times a second; otherwise a line every 10 seconds. Nothing at all for
// work that ends within two seconds. Update may be called from any thread.
class Progress {
 public:
  Progress(ProgressOptions options, const Clock& clock);
  ~Progress();
  void Update(uint64_t done, const std::string& note = {});
  void Finish(uint64_t done);

  // The text of the line at a moment, for tests: "ingest train  42% [####....] 4,200/10,000 images  812 images/s  ETA 7s".
  static std::string Render(const ProgressOptions& options, uint64_t done, double elapsed_s, int columns, const std::string& note);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace plateau
