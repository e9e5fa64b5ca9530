// One attempt from launch.json to exit.json.
#include "coordinator/launch/supervisor.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

#include "common/log.h"
#include "coordinator/launch/attempt_files.h"
#include "coordinator/launch/hang_report.h"

namespace plateau {
namespace {

constexpr int64_t kEmptySessionLimitMs = 30'000;
constexpr int64_t kKillAgainMs = 1'000;
constexpr int64_t kTraceWaitMs = 1'000;  // for the ranks to write their stack traces

// What the child between fork and exec works with.
struct Child {
  char* const* arguments;
  char* const* environment;
  int log, null;
  int go_read, go_write;  // a byte lets it go on; the end of the pipe means that the supervisor is gone
  int error_write;        // what exec said
};

// In the child: only calls that are safe there.
[[noreturn]] void BecomeMpirun(const Child& child) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  ::setsid();
  ::dup2(child.null, 0);
  ::dup2(child.log, 1);
  ::dup2(child.log, 2);
  ::close(child.go_write);
  char go = 0;
  if (::read(child.go_read, &go, 1) != 1) ::_exit(127);
  ::execvpe(child.arguments[0], child.arguments, child.environment);
  const int error = errno;
  [[maybe_unused]] const auto written = ::write(child.error_write, &error, sizeof error);
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

// mpirun's process from the fork on. It becomes mpirun only in Go(): until then it ends by itself when the supervisor does, so that
// supervisor.json can name it before anything runs.
class Mpirun {
 public:
  static Result<Mpirun> Fork(LaunchRequest& request, const std::string& marker) {
    const std::string log_path = request.folder + "/logs/mpirun.log";
    const int log = ::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    int go[2], error[2];
    if (log < 0 || null < 0 || ::pipe2(go, O_CLOEXEC) != 0 || ::pipe2(error, O_CLOEXEC) != 0)
      return Fail(ErrorCode::kIo, "{}: cannot open: {}", log_path, std::strerror(errno));
    auto environment = MergedEnvironment(request, marker);
    const auto argument_pointers = Pointers(request.arguments);
    const auto environment_pointers = Pointers(environment);
    const int pid = ::fork();
    if (pid == 0) BecomeMpirun({argument_pointers.data(), environment_pointers.data(), log, null, go[0], go[1], error[1]});
    const int fork_error = errno;
    for (const int fd : {log, null, go[0], error[1]}) ::close(fd);
    if (pid < 0) return Fail(ErrorCode::kIo, "cannot fork: {}", std::strerror(fork_error));
    return Mpirun(pid, go[1], error[0]);
  }

  int pid() const { return pid_; }
  // Lets it run; the error is what exec said.
  Status Go(const std::string& program) {
    const char go = 1;
    if (::write(go_, &go, 1) != 1) return Abandon(), Fail(ErrorCode::kIo, "{} died before it started", program);
    int error = 0;
    if (::read(error_, &error, sizeof error) != static_cast<ssize_t>(sizeof error)) return {};  // closed by exec
    Abandon();
    return Fail(ErrorCode::kNotFound, "cannot start {}: {}; is it installed and on the coordinator's PATH?", program,
                std::strerror(error));
  }
  // Instead of Go(), or after it failed.
  void Abandon() {
    ::close(std::exchange(go_, -1));
    ::waitpid(pid_, nullptr, 0);
  }

 private:
  Mpirun(int pid, int go, int error) : pid_(pid), go_(go), error_(error) {}
  int pid_, go_, error_;  // the descriptors live as long as the supervisor
};

struct Ended {
  int status = 0;     // of waitpid
  bool told = false;  // to end
};

// Waits for mpirun's end, collects orphans, and serves orders: SIGTERM ends the attempt, SIGUSR2 does so after its traces are saved.
class Watchman {
 public:
  Watchman(FileSystem& files, const Clock& clock, const LaunchRequest& request, int mpirun, const SessionMark& mark)
      : files_(files), clock_(clock), request_(request), mpirun_(mpirun), mark_(mark) {}

  Ended Wait() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR2}) sigaddset(&set, signal);
    while (!Collect()) {
      const int64_t left_ms = std::max<int64_t>(0, deadline_ms_ - clock_.MonotonicMs());
      const timespec left{left_ms / 1000, (left_ms % 1000) * 1'000'000};
      const int signal = deadline_ms_ > 0 ? ::sigtimedwait(&set, nullptr, &left) : ::sigwaitinfo(&set, nullptr);
      // By the clock: orphans that end one after the other interrupt every wait, and must not prolong it.
      if (deadline_ms_ > 0 && clock_.MonotonicMs() >= deadline_ms_)
        DeadlinePassed();
      else if (signal == SIGUSR2 && !saving_ && !ended_.told)
        SaveTraces();
      else if ((signal == SIGTERM || signal == SIGINT) && !ended_.told)
        TellToEnd();
    }
    return ended_;
  }

 private:
  // True when mpirun has ended.
  bool Collect() {
    int status = 0;
    for (int pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      if (pid != mpirun_) continue;
      ended_.status = status;
      return true;
    }
    return false;
  }

  void DeadlinePassed() {
    if (!ended_.told) return TellToEnd();  // the ranks have had their time to write traces
    LogWarning("the grace is over: the session is killed");
    for (const int pid : SessionMembers(mark_)) ::kill(pid, SIGKILL);
    deadline_ms_ = clock_.MonotonicMs() + kKillAgainMs;  // whoever was born meanwhile
  }

  void TellToEnd() {
    LogInfo("told to end: mpirun gets SIGTERM, its session SIGKILL after {} ms", request_.grace_ms);
    ended_.told = true;
    ::kill(mpirun_, SIGTERM);
    deadline_ms_ = clock_.MonotonicMs() + request_.grace_ms;
  }

  // /proc first: afterwards the ranks are busy with their traces. mpirun hands SIGUSR2 on to the ranks of every host.
  void SaveTraces() {
    const std::string path = request_.folder + "/logs/hang.txt";
    LogInfo("told that the attempt hangs: what it is doing goes to {} and to the ranks' logs", path);
    const std::string text = fmt::format(
        "Attempt {} of job {} at {}, when the hang verdict came: its processes on this machine.\nStack traces of ranks that could "
        "still write them are in rank-<n>.log.\n\n{}",
        request_.attempt, request_.job, FormatUtc(clock_.NowMs()), DescribeProcesses(files_, SessionMembers(mark_)));
    if (auto written = WriteFileAtomic(files_, path, text); !written) LogWarning("{}", written.error().message);
    ::kill(mpirun_, SIGUSR2);
    saving_ = true;
    deadline_ms_ = clock_.MonotonicMs() + kTraceWaitMs;
  }

  FileSystem& files_;
  const Clock& clock_;
  const LaunchRequest& request_;
  int mpirun_;
  const SessionMark& mark_;
  Ended ended_;
  bool saving_ = false;
  int64_t deadline_ms_ = 0;  // monotonic, 0 none: of the traces, then of the grace
};

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
  PLATEAU_ASSIGN(Mpirun mpirun, Mpirun::Fork(request, marker));
  const auto info = ReadProcess(mpirun.pid());
  const SupervisorFile self{::getpid(), mpirun.pid(), {mpirun.pid(), info ? info->start_ticks : 0, BootId(), marker}, clock.NowMs()};
  if (auto written = WriteSupervisorFile(files, request.folder, self); !written) {
    mpirun.Abandon();
    return Fail(std::move(written.error()));
  }
  PLATEAU_TRY(mpirun.Go(request.arguments[0]));
  const Ended ended = Watchman(files, clock, request, mpirun.pid(), self.session).Wait();
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
