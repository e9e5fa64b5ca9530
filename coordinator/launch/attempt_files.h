// The files of an attempt's folder that supervisor and coordinator read and write: launch.json, supervisor.json, exit.json, lock.
//
// lock         held (flock) by the supervisor as long as it lives; its text is the supervisor's pid
// launch.json  {"version","job","attempt","arguments":[],"environment":{},"scratch","grace_ms"}; written by the coordinator. Holds
// the token supervisor.json {"version","pid","mpirun_pid","session","start_ticks","boot_id","marker","started"}; written once
// mpirun runs exit.json    {"version","launched","exit_code","signal","message","ended"}; written when the session is empty.
// Nothing of the
//              attempt runs once it is there, and a supervisor that finds it leaves at once.
#pragma once

#include <optional>
#include <string>

#include "common/clock.h"
#include "common/file.h"
#include "coordinator/launch/launcher.h"
#include "coordinator/launch/session.h"

namespace plateau {

struct SupervisorFile {
  int64_t pid = 0;
  int64_t mpirun_pid = 0;
  SessionMark session;
  int64_t started_ms = 0;  // Unix
};

Status WriteLaunchFile(FileSystem& files, const LaunchRequest& request);
Result<LaunchRequest> ReadLaunchFile(FileSystem& files, const std::string& folder);
Status WriteSupervisorFile(FileSystem& files, const std::string& folder, const SupervisorFile& supervisor);
Result<SupervisorFile> ReadSupervisorFile(FileSystem& files, const std::string& folder);
Status WriteExitFile(FileSystem& files, const std::string& folder, const ExitNotice& notice, const Clock& clock);
// kNotFound while the attempt runs.
Result<ExitNotice> ReadExitFile(FileSystem& files, const std::string& folder);

// Makes <folder>/logs lead to `logs`, where an attempt over several hosts keeps them. Fine when it does already.
Status LinkLogs(const std::string& folder, const std::string& logs);

// Closes the lock when it goes.
class AttemptLock {
 public:
  // Nothing when another process holds it. Creates the file.
  static Result<std::optional<AttemptLock>> Try(const std::string& folder);
  // The pid in the lock file, 0 when there is none yet.
  static int64_t HolderPid(const std::string& folder);
  AttemptLock(AttemptLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  AttemptLock& operator=(AttemptLock&&) = delete;
  ~AttemptLock();
  Status WritePid(int64_t pid);

 private:
  explicit AttemptLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace plateau
