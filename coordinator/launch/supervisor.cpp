// One attempt from launch.json to exit.json.
#include "coordinator/launch/supervisor.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "coordinator/launch/attempt_files.h"

namespace plateau {
namespace {

constexpr int64_t kEmptySessionLimitMs = 30'000;
constexpr int64_t kKillAgainMs = 1'000;

// In the child, between fork and exec: only calls that are safe there.
[[noreturn]] void BecomeMpirun(char* const* arguments, char* const* environment, int log, int null, int error_pipe) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  ::setsid();
  ::dup2(null, 0);
  ::dup2(log, 1);
  ::dup2(log, 2);
  ::execvpe(arguments[0], arguments, environment);
  const int error = errno;
  [[maybe_unused]] const auto written = ::write(error_pipe, &error, sizeof error);
  ::_exit(127);
}

std::vector<std::string> MergedEnvironment(const LaunchRequest& request, const std::string& marker) {
  std::vector<std::string> merged;
  const auto is_ours = [&](const std::string& entry) {
    for (const auto& [name, value] : request.environment)
      if (entry.starts_with(name + "=")) return true;
    return entry.starts_with(std::string(kSessionMarker) + "=");
  };
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (!is_ours(*entry)) merged.emplace_back(*entry);
  for (const auto& [name, value] : request.environment) merged.push_back(name + "=" + value);
  merged.push_back(std::string(kSessionMarker) + "=" + marker);
  return merged;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (auto& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Starts mpirun; the error is what exec said.
Result<int> StartMpirun(LaunchRequest& request, const std::string& marker) {
  const std::string log_path = request.folder + "/logs/mpirun.log";
  const int log = ::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  int ends[2];
  if (log < 0 || null < 0 || ::pipe2(ends, O_CLOEXEC) != 0)
    return Fail(ErrorCode::kIo, "{}: cannot open: {}", log_path, std::strerror(errno));
  auto environment = MergedEnvironment(request, marker);
  const auto argument_pointers = Pointers(request.arguments);
  const auto environment_pointers = Pointers(environment);
  const int pid = ::fork();
  if (pid == 0) BecomeMpirun(argument_pointers.data(), environment_pointers.data(), log, null, ends[1]);
  const int fork_error = errno;
  ::close(ends[1]);
  ::close(log);
  ::close(null);
  int error = 0;
  const bool exec_failed = pid > 0 && ::read(ends[0], &error, sizeof error) == static_cast<ssize_t>(sizeof error);
  ::close(ends[0]);
  if (pid < 0) return Fail(ErrorCode::kIo, "cannot fork: {}", std::strerror(fork_error));
  if (exec_failed) {
    ::waitpid(pid, nullptr, 0);
    return Fail(ErrorCode::kNotFound, "cannot start {}: {}; is it installed and on the coordinator's PATH?", request.arguments[0],
                std::strerror(error));
  }
  return pid;
}

struct Ended {
  int status = 0;     // of waitpid
  bool told = false;  // by SIGTERM
};

// A signal of the set; -1 when none came until `until_ms` (monotonic). Without that it waits for ever.
int NextSignal(const sigset_t& set, std::optional<int64_t> until_ms, const Clock& clock) {
  if (!until_ms) return ::sigwaitinfo(&set, nullptr);
  const int64_t left_ms = std::max<int64_t>(0, *until_ms - clock.MonotonicMs());
  const timespec left{left_ms / 1000, (left_ms % 1000) * 1'000'000};
  return ::sigtimedwait(&set, nullptr, &left);
}

// Waits for mpirun's end, collecting orphans, and serves SIGTERM.
Ended WaitForMpirun(int mpirun, int64_t grace_ms, const SessionMark& mark, const Clock& clock) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  Ended ended;
  std::optional<int64_t> kill_at_ms;
  for (;;) {
    int status = 0;
    for (int pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      if (pid == mpirun) {
        ended.status = status;
        return ended;
      }
    }
    const int signal = NextSignal(set, kill_at_ms, clock);
    // By the clock: orphans that end one after the other interrupt every wait, and must not prolong the grace.
    if (kill_at_ms && clock.MonotonicMs() >= *kill_at_ms) {
      LogWarning("the grace is over: the session is killed");
      for (const int pid : SessionMembers(mark)) ::kill(pid, SIGKILL);
      kill_at_ms = clock.MonotonicMs() + kKillAgainMs;  // whoever was born meanwhile
    } else if ((signal == SIGTERM || signal == SIGINT) && !ended.told) {
      LogInfo("told to end: mpirun gets SIGTERM, its session SIGKILL after {} ms", grace_ms);
      ended.told = true;
      ::kill(mpirun, SIGTERM);
      kill_at_ms = clock.MonotonicMs() + grace_ms;
    }
  }
}

ExitNotice Describe(const LaunchRequest& request, const Ended& ended) {
  ExitNotice notice{.job = request.job, .attempt = request.attempt};
  const std::string& program = request.arguments[0];
  if (WIFSIGNALED(ended.status)) {
    notice.signal = WTERMSIG(ended.status);
    notice.exit_code = 128 + notice.signal;
    notice.message = fmt::format("{} was killed by signal {} ({})", program, notice.signal, ::strsignal(notice.signal));
  } else {
    notice.exit_code = WEXITSTATUS(ended.status);
    notice.message = fmt::format("{} exited with code {}", program, notice.exit_code);
    if (notice.exit_code > 128 && notice.exit_code < 128 + 65)
      notice.message +=
          fmt::format(": a rank was killed by signal {} ({})", notice.exit_code - 128, ::strsignal(notice.exit_code - 128));
  }
  if (ended.told) notice.message += ", after it was told to end";
  return notice;
}

std::string RandomMarker(const LaunchRequest& request) {
  uint64_t value = 0;
  PosixFileSystem files;
  if (::getentropy(&value, sizeof value) != 0) value = static_cast<uint64_t>(::getpid());
  return fmt::format("{}/{}/{:016x}", request.job, request.attempt, value);
}

Result<ExitNotice> Supervise(FileSystem& files, const Clock& clock, LaunchRequest request) {
  PLATEAU_TRY(files.MakeDirectories(request.folder + "/logs"));
  if (!request.scratch.empty()) PLATEAU_TRY(files.MakeDirectories(request.scratch));
  const std::string marker = RandomMarker(request);
  const auto mpirun = StartMpirun(request, marker);
  if (!mpirun) return ExitNotice{request.job, request.attempt, false, -1, 0, mpirun.error().message};
  const auto info = ReadProcess(*mpirun);
  const SupervisorFile self{::getpid(), *mpirun, {*mpirun, info ? info->start_ticks : 0, BootId(), marker}, clock.NowMs()};
  Ended ended;
  if (auto written = WriteSupervisorFile(files, request.folder, self); written) {
    ended = WaitForMpirun(*mpirun, request.grace_ms, self.session, clock);
  } else {
    LogError("{}; the attempt is given up", written.error().message);
    ended.told = true;
    EmptySession(self.session, kEmptySessionLimitMs, false);
    ::waitpid(*mpirun, &ended.status, 0);
  }
  ExitNotice notice = Describe(request, ended);
  const auto left = EmptySession(self.session, kEmptySessionLimitMs, true);
  if (!left.empty())
    notice.message += fmt::format("; {} of its processes cannot be killed (pid {} first)", left.size(), left.front());
  return notice;
}

}  // namespace

int RunSupervisor(const std::string& folder) {
  ::syscall(SYS_close_range, 3u, ~0u, 0u);  // nothing of the coordinator's is kept open
  sigset_t set;
  sigfillset(&set);
  sigprocmask(SIG_SETMASK, &set, nullptr);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);  // orphans of the session come here
  InitLog("supervisor");
  PosixFileSystem files;
  SystemClock clock;
  auto lock = AttemptLock::Try(folder);
  if (!lock || !*lock) {
    LogError("{}", lock ? folder + "/lock: another supervisor runs this attempt" : lock.error().message);
    return 1;
  }
  if (auto written = (*lock)->WritePid(::getpid()); !written) LogError("{}", written.error().message);
  if (files.Exists(folder + "/exit.json")) {
    LogWarning("{}: the attempt was given up before it started", folder);
    return 0;
  }
  auto request = ReadLaunchFile(files, folder);
  if (!request) {
    LogError("{}", request.error().message);
    return 1;
  }
  const std::string scratch = request->scratch;
  ExitNotice failed{request->job, request->attempt, false, -1, 0, {}};
  auto notice = Supervise(files, clock, std::move(*request));
  if (!notice) {
    failed.message = notice.error().message;
    notice = failed;
  }
  if (!scratch.empty())
    if (auto removed = files.RemoveAll(scratch); !removed) LogWarning("{}", removed.error().message);
  LogInfo("{}", notice->message);
  if (auto written = WriteExitFile(files, folder, *notice, clock); !written) {
    LogError("{}", written.error().message);
    return 1;
  }
  return 0;
}

}  // namespace plateau
