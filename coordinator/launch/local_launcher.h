// Starts supervisors on this machine and learns of their end through pidfds, in one thread of its own.
#pragma once

#include <memory>
#include <string>

#include "common/clock.h"
#include "common/file.h"
#include "coordinator/launch/launcher.h"

namespace plateau {

struct LocalLauncherOptions {
  std::string supervisor_program;           // plateau-coordinator; run as `PROGRAM supervise --dir FOLDER`
  int64_t supervisor_patience_ms = 45'000;  // beyond the grace, until a supervisor that does not end is itself killed
};

class LocalLauncher final : public Launcher {
 public:
  LocalLauncher(LocalLauncherOptions options, FileSystem& files, const Clock& clock, Notice notice);
  // Stops watching; what runs goes on running.
  ~LocalLauncher() override;

  Result<int64_t> Start(const LaunchRequest& request) override;
  void Adopt(const std::string& job, int attempt, const std::string& folder) override;
  void Kill(const std::string& job, int attempt, bool save_traces) override;

 private:
  class Watch;
  LocalLauncherOptions options_;
  FileSystem& files_;
  std::unique_ptr<Watch> watch_;
};

}  // namespace plateau
