// inotify and pidfd waits around endpoints.json.
#include "coordinator/cli/local_state.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/file.h"

namespace plateau {
namespace {

using Steady = std::chrono::steady_clock;

// A file descriptor that is closed with its owner.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

int OpenPid(pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

int RemainingMs(Steady::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Steady::now()).count();
  return left > 0 ? static_cast<int>(left) : 0;
}

std::string ExitText(int status) {
  if (WIFSIGNALED(status)) return fmt::format("was ended by signal {}", WTERMSIG(status));
  return fmt::format("left with exit code {}", WEXITSTATUS(status));
}

}  // namespace

std::string LocalStateFolder() {
  if (const char* state = std::getenv("PLATEAU_STATE"); state != nullptr && *state != 0) return state;
  const char* home = std::getenv("HOME");
  return std::string(home != nullptr ? home : "") + "/.local/state/plateau";
}

Result<LocalEndpoints> ReadEndpoints(const std::string& state_folder) {
  PosixFileSystem files;
  const std::string path = state_folder + "/endpoints.json";
  PLATEAU_ASSIGN(const std::string text, files.Read(path));
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("http") || !json["http"].is_string())
    return Fail(ErrorCode::kCorrupt, "{}: no \"http\" address in it; stop the coordinator and remove the file", path);
  LocalEndpoints endpoints;
  endpoints.http = json["http"];
  endpoints.link = json.value("link", "");
  endpoints.zmq = json.value("zmq", "");
  endpoints.pid = json.value("pid", 0);
  return endpoints;
}

bool IsProcess(pid_t pid, const std::string& program) {
  if (pid <= 0) return false;
  std::error_code code;
  std::string target = std::filesystem::read_symlink(fmt::format("/proc/{}/exe", pid), code).filename().string();
  constexpr std::string_view kDeleted = " (deleted)";  // rebuilt while it runs
  if (target.ends_with(kDeleted)) target.resize(target.size() - kDeleted.size());
  return !code && target == program;
}

Result<LocalEndpoints> AwaitEndpoints(const std::string& state_folder, pid_t pid, int timeout_ms) {
  const auto deadline = Steady::now() + std::chrono::milliseconds(timeout_ms);
  const Descriptor folder(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  const Descriptor process(OpenPid(pid));
  if (folder.get() < 0 || ::inotify_add_watch(folder.get(), state_folder.c_str(), IN_MOVED_TO | IN_CLOSE_WRITE) < 0)
    return Fail(ErrorCode::kIo, "{}: cannot watch the folder: {}", state_folder, std::strerror(errno));
  while (true) {
    // The watch stands before the look, so that no write is missed between the two.
    if (auto endpoints = ReadEndpoints(state_folder); endpoints && endpoints->pid == pid) return endpoints;
    std::array<pollfd, 2> waits{pollfd{folder.get(), POLLIN, 0}, pollfd{process.get(), POLLIN, 0}};
    const int ready = ::poll(waits.data(), waits.size(), RemainingMs(deadline));
    if (ready < 0 && errno != EINTR) return Fail(ErrorCode::kIo, "waiting for the coordinator failed: {}", std::strerror(errno));
    if (ready == 0)
      return Fail(ErrorCode::kUnavailable, "the coordinator (pid {}) did not listen within {} s", pid, timeout_ms / 1000);
    if (waits[1].revents != 0) {
      int status = 0;
      ::waitpid(pid, &status, 0);
      return Fail(ErrorCode::kUnavailable, "the coordinator {} before it listened", ExitText(status));
    }
    std::array<char, 4096> events;
    while (::read(folder.get(), events.data(), events.size()) > 0) continue;
  }
}

bool AwaitExit(pid_t pid, int timeout_ms) {
  const Descriptor process(OpenPid(pid));
  if (process.get() < 0) return errno == ESRCH;
  pollfd wait{process.get(), POLLIN, 0};
  const auto deadline = Steady::now() + std::chrono::milliseconds(timeout_ms);
  int ready = 0;
  do ready = ::poll(&wait, 1, RemainingMs(deadline));
  while (ready < 0 && errno == EINTR);
  return ready > 0;
}

}  // namespace plateau
