// Supervisors by posix_spawn; a watching thread with one pidfd each.
#include "coordinator/launch/local_launcher.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <map>
#include <mutex>
#include <poll.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <variant>

#include "common/log.h"
#include "coordinator/launch/attempt_files.h"

namespace plateau {
namespace {

constexpr int64_t kCleanUpLimitMs = 30'000;
constexpr int64_t kAdoptRetryMs = 100;  // a supervisor holds its lock but has not written its pid yet
constexpr int kAdoptTriesTold = 100;    // after so many it is said, once
// A supervisor that a dying coordinator started in its last moment may take this long to come to its lock.
constexpr int64_t kSupervisorStartMs = 5'000;

int OpenPidfd(int64_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(pid), 0)); }

}  // namespace

// The watching thread and its table of attempts.
class LocalLauncher::Watch {
 public:
  Watch(LocalLauncherOptions options, FileSystem& files, const Clock& clock, Notice notice)
      : options_(std::move(options)),
        files_(files),
        clock_(clock),
        notice_(std::move(notice)),
        wake_(::eventfd(0, EFD_CLOEXEC)),
        thread_([this] { Run(); }) {}

  ~Watch() {
    Post(Stop{});
    thread_.join();
    for (const auto& [key, entry] : entries_)
      if (entry.pidfd >= 0) ::close(entry.pidfd);
    ::close(wake_);
  }

  struct Track {
    std::string job;
    int attempt;
    std::string folder;
    int64_t pid;
    int pidfd;
    int64_t grace_ms;
  };
  struct AdoptOne {
    std::string job;
    int attempt;
    std::string folder;
    int tries = 0;
    int64_t began_ms = 0;  // of the first try
  };
  struct KillOne {
    std::string job;
    int attempt;
    bool save_traces;
  };
  struct Stop {};
  using Order = std::variant<Track, AdoptOne, KillOne, Stop>;

  void Post(Order order) {
    {
      const std::lock_guard lock(mutex_);
      orders_.push_back(std::move(order));
    }
    const uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_, &one, sizeof one);
  }

 private:
  struct Entry {
    std::string folder;
    int64_t pid = 0;
    int pidfd = -1;
    int64_t grace_ms = 0;
    int64_t kill_at_ms = 0;  // monotonic: SIGKILL to the supervisor itself
  };
  using Key = std::pair<std::string, int>;

  void Run();
  void Serve(const Track& order);
  void Serve(const AdoptOne& order);
  void Serve(const KillOne& order);
  void Serve(const Stop&) { stopping_ = true; }
  void SendKill(Entry& entry, bool save_traces);
  void Ended(const Key& key, Entry entry);
  ExitNotice Lost(const Key& key, const std::string& folder);
  int WaitMs() const;

  LocalLauncherOptions options_;
  FileSystem& files_;
  const Clock& clock_;
  Notice notice_;
  int wake_;
  std::mutex mutex_;
  std::vector<Order> orders_;     // guarded by mutex_
  std::map<Key, Entry> entries_;  // the thread's own
  std::map<Key, AdoptOne> adopting_;
  std::map<Key, bool> kill_when_found_;  // with save_traces; told to end while they were being looked for
  bool stopping_ = false;
  std::thread thread_;
};

void LocalLauncher::Watch::Run() {
  while (!stopping_) {
    std::vector<pollfd> waits{{wake_, POLLIN, 0}};
    std::vector<Key> keys;
    for (const auto& [key, entry] : entries_) {
      waits.push_back({entry.pidfd, POLLIN, 0});
      keys.push_back(key);
    }
    ::poll(waits.data(), waits.size(), WaitMs());
    if ((waits[0].revents & POLLIN) != 0) {
      uint64_t count = 0;
      [[maybe_unused]] const auto got = ::read(wake_, &count, sizeof count);
    }
    std::vector<Order> orders;
    {
      const std::lock_guard lock(mutex_);
      orders.swap(orders_);
    }
    for (const auto& order : orders) std::visit([this](const auto& one) { Serve(one); }, order);
    for (size_t i = 0; i < keys.size(); ++i) {
      if ((waits[i + 1].revents & POLLIN) == 0) continue;
      auto node = entries_.extract(keys[i]);
      Ended(keys[i], std::move(node.mapped()));
    }
    const auto retries = std::exchange(adopting_, {});
    for (const auto& [key, order] : retries) Serve(order);
    for (auto& [key, entry] : entries_) {
      if (entry.kill_at_ms == 0 || clock_.MonotonicMs() < entry.kill_at_ms) continue;
      LogError("supervisor {} of attempt {} of job {} does not end; it is killed and its session with it", entry.pid, key.second,
               key.first);
      ::syscall(SYS_pidfd_send_signal, entry.pidfd, SIGKILL, nullptr, 0);
      entry.kill_at_ms = 0;
    }
  }
}

int LocalLauncher::Watch::WaitMs() const {
  int64_t wait_ms = adopting_.empty() ? -1 : kAdoptRetryMs;
  for (const auto& [key, entry] : entries_) {
    if (entry.kill_at_ms == 0) continue;
    const int64_t left_ms = std::max<int64_t>(0, entry.kill_at_ms - clock_.MonotonicMs());
    wait_ms = wait_ms < 0 ? left_ms : std::min(wait_ms, left_ms);
  }
  return static_cast<int>(wait_ms);
}

void LocalLauncher::Watch::Serve(const Track& order) {
  const Key key{order.job, order.attempt};
  entries_[key] = Entry{order.folder, order.pid, order.pidfd, order.grace_ms};
  if (const auto kill = kill_when_found_.extract(key)) SendKill(entries_[key], kill.mapped());
}

// Without a living supervisor: what it left behind decides. The lock is held here meanwhile, so that none can start.
void LocalLauncher::Watch::Serve(const AdoptOne& order) {
  const Key key{order.job, order.attempt};
  if (auto exit = ReadExitFile(files_, order.folder)) return notice_(*exit);
  const int64_t now_ms = clock_.MonotonicMs(), began_ms = order.tries == 0 ? now_ms : order.began_ms;
  const AdoptOne again{order.job, order.attempt, order.folder, order.tries + 1, began_ms};
  // Taking the lock now would send it away.
  const bool may_begin = ReadLaunchFile(files_, order.folder).has_value() && !ReadSupervisorFile(files_, order.folder);
  if (may_begin && now_ms - began_ms < kSupervisorStartMs) {
    adopting_[key] = again;
    return;
  }
  auto lock = AttemptLock::Try(order.folder);
  if (!lock && lock.error().code != ErrorCode::kNotFound) {  // it may live: asked again
    if (order.tries == 0) LogError("job {}: {}; tried again", order.job, lock.error().message);
    adopting_[key] = again;
    return;
  }
  if (!lock) {
    return notice_(
        ExitNotice{order.job, order.attempt, false, -1, 0, "the attempt had not been launched when the coordinator stopped"});
  }
  if (*lock) return notice_(Lost(key, order.folder));
  const int64_t pid = AttemptLock::HolderPid(order.folder);
  const int pidfd = pid > 0 ? OpenPidfd(pid) : -1;
  if (pidfd >= 0) {
    auto launch = ReadLaunchFile(files_, order.folder);
    LogInfo("attempt {} of job {} is alive under supervisor {}", order.attempt, order.job, pid);
    return Serve(Track{order.job, order.attempt, order.folder, pid, pidfd, launch ? launch->grace_ms : 5'000});
  }
  if (order.tries == kAdoptTriesTold) LogError("{}/lock is held, but its holder cannot be found; waiting for it", order.folder);
  adopting_[key] = again;
}

void LocalLauncher::Watch::Serve(const KillOne& order) {
  const Key key{order.job, order.attempt};
  if (const auto found = entries_.find(key); found != entries_.end())
    SendKill(found->second, order.save_traces);
  else if (adopting_.contains(key))
    kill_when_found_[key] = order.save_traces;
}

void LocalLauncher::Watch::SendKill(Entry& entry, bool save_traces) {
  ::syscall(SYS_pidfd_send_signal, entry.pidfd, save_traces ? SIGUSR2 : SIGTERM, nullptr, 0);
  if (entry.kill_at_ms == 0) entry.kill_at_ms = clock_.MonotonicMs() + entry.grace_ms + options_.supervisor_patience_ms;
}

void LocalLauncher::Watch::Ended(const Key& key, Entry entry) {
  ::waitpid(static_cast<pid_t>(entry.pid), nullptr, WNOHANG);  // collects it when it was our child
  ::close(entry.pidfd);
  auto exit = ReadExitFile(files_, entry.folder);
  notice_(exit ? *exit : Lost(key, entry.folder));
}

// The supervisor is gone without exit.json: ends the session in its place and writes the file, so that the answer stays the same.
ExitNotice LocalLauncher::Watch::Lost(const Key& key, const std::string& folder) {
  ExitNotice notice{key.first, key.second, true, -1, 0, "its supervisor died; the processes it left were killed"};
  if (auto supervisor = ReadSupervisorFile(files_, folder)) {
    const auto left = EmptySession(supervisor->session, kCleanUpLimitMs, false);
    if (!left.empty()) notice.message += fmt::format("; {} of them cannot be killed (pid {} first)", left.size(), left.front());
  } else {
    notice.launched = false;
    notice.message = "its supervisor never got to start it; look into " + folder + "/logs/supervisor.log";
  }
  if (auto launch = ReadLaunchFile(files_, folder); launch && !launch->scratch.empty()) {
    if (auto removed = files_.RemoveAll(launch->scratch); !removed) LogWarning("{}", removed.error().message);
  }
  if (auto written = WriteExitFile(files_, folder, notice, clock_); !written) LogError("{}", written.error().message);
  return notice;
}

LocalLauncher::LocalLauncher(LocalLauncherOptions options, FileSystem& files, const Clock& clock, Notice notice)
    : options_(options), files_(files), watch_(std::make_unique<Watch>(std::move(options), files, clock, std::move(notice))) {}

LocalLauncher::~LocalLauncher() = default;

Result<int64_t> LocalLauncher::Start(const LaunchRequest& request) {
  const std::string logs = request.folder + "/logs";
  PLATEAU_TRY(files_.MakeDirectories(logs));
  if (!request.hostfile.empty()) PLATEAU_TRY(WriteFileAtomic(files_, request.folder + "/hostfile", request.hostfile));
  if (!request.rankfile.empty()) PLATEAU_TRY(WriteFileAtomic(files_, request.folder + "/rankfile", request.rankfile));
  PLATEAU_TRY(WriteLaunchFile(files_, request));

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  const std::string log = logs + "/supervisor.log";
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  sigset_t all;
  sigfillset(&all);
  posix_spawnattr_setsigdefault(&attributes, &all);  // the coordinator ignores SIGPIPE; ranks must not inherit that
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  std::vector<std::string> arguments{options_.supervisor_program, "supervise", "--dir", request.folder};
  std::vector<char*> pointers;
  for (auto& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, options_.supervisor_program.c_str(), &actions, &attributes, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0)
    return Fail(ErrorCode::kIo, "{}: cannot start a supervisor: {}", options_.supervisor_program, std::strerror(error));
  const int pidfd = OpenPidfd(pid);
  if (pidfd < 0) {
    const int reason = errno;
    ::kill(pid, SIGTERM);
    return Fail(ErrorCode::kUnsupported, "pidfd_open: {}; Linux 5.3 or newer is needed", std::strerror(reason));
  }
  watch_->Post(Watch::Track{request.job, request.attempt, request.folder, pid, pidfd, request.grace_ms});
  return static_cast<int64_t>(pid);
}

void LocalLauncher::Adopt(const std::string& job, int attempt, const std::string& folder) {
  watch_->Post(Watch::AdoptOne{job, attempt, folder});
}

void LocalLauncher::Kill(const std::string& job, int attempt, bool save_traces) {
  watch_->Post(Watch::KillOne{job, attempt, save_traces});
}

}  // namespace plateau
