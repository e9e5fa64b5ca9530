// Probes as child processes, watched through pidfds by one thread.
#include "coordinator/node/prober.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <mutex>
#include <poll.h>
#include <set>
#include <spawn.h>
#include <sstream>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "common/clock.h"
#include "common/text.h"

namespace plateau {
namespace {

constexpr size_t kMaxOutputBytes = 64 << 10;
constexpr size_t kMaxMessageBytes = 300;
constexpr const char* kCoresQuestion = "lscpu -p=CORE,SOCKET";
constexpr int kDevicesLimitS = 20;  // a driver that hangs must not make its host count as lost

bool IsCoreLine(const std::string& line) {
  return line.find(',') != std::string::npos && line.find_first_not_of("0123456789,\r") == std::string::npos;
}

// Of what is neither empty nor lscpu's.
std::string LastLine(const std::string& text) {
  std::string last;
  for (const std::string& line : SplitText(text, '\n'))
    if (line.find_first_not_of(" \t\r") != std::string::npos && !IsCoreLine(line) && line[0] != '#') last = line;
  while (!last.empty() && (last.back() == '\r' || last.back() == ' ')) last.pop_back();
  return last.substr(0, kMaxMessageBytes);
}

std::string Quoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

struct Running {
  std::string node;
  pid_t pid = 0;
  int pidfd = -1;
  int output = -1;            // what it prints, both streams; not blocking
  bool output_ended = false;  // it closed both streams and may run on
  std::string text;
  int64_t end_ms = 0;  // monotonic
};

}  // namespace

std::string AgentCommand(const std::string& agent) { return agent == "ssh" ? "ssh -o BatchMode=yes -o ConnectTimeout=8" : agent; }

// In a login shell of any kind, fish and csh too: words and quoted text alone, the rest is for sh.
std::string ProbeQuestion(const std::string& worker, bool local) {
  const std::string devices = fmt::format("timeout {0} {1} devices --json || [ $? -ne 124 ] || echo no answer within {0} s",
                                          kDevicesLimitS, Quoted(worker));
  if (local) return devices;
  return worker.empty() ? kCoresQuestion : fmt::format("{} && sh -c {}", kCoresQuestion, Quoted(devices));
}

int CountCores(const std::string& lscpu) {
  std::set<std::string> cores;
  for (const std::string& line : SplitText(lscpu, '\n')) {
    if (IsCoreLine(line)) cores.insert(line);
  }
  return static_cast<int>(cores.size());
}

class AgentProber::Watch {
 public:
  Watch(AgentProberOptions options, Notice notice)
      : options_(std::move(options)),
        notice_(std::move(notice)),
        wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        thread_([this] { Run(); }) {}

  ~Watch() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    Wake();
    thread_.join();
    for (auto& one : running_) {
      ::kill(-one.pid, SIGKILL);
      Collect(one);
    }
    ::close(wake_);
  }

  void Post(const std::string& node) {
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(node);
    }
    Wake();
  }

 private:
  void Wake() {
    const uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_, &one, sizeof one);
  }

  void Run() {
    while (StartWaiting()) {
      std::vector<pollfd> waits{{wake_, POLLIN, 0}};
      int64_t end_ms = -1;
      for (const auto& one : running_) {
        waits.push_back({one.pidfd, POLLIN, 0});
        waits.push_back({one.output_ended ? -1 : one.output, POLLIN, 0});
        end_ms = end_ms < 0 ? one.end_ms : std::min(end_ms, one.end_ms);
      }
      const int64_t wait_ms = end_ms < 0 ? -1 : std::max<int64_t>(0, end_ms - clock_.MonotonicMs());
      ::poll(waits.data(), waits.size(), static_cast<int>(wait_ms));
      uint64_t count = 0;
      [[maybe_unused]] const auto got = ::read(wake_, &count, sizeof count);
      std::vector<Running> still;
      for (size_t i = 0; i < running_.size(); ++i) {
        Running& one = running_[i];
        const bool ended = (waits[1 + 2 * i].revents & POLLIN) != 0;
        if (waits[2 + 2 * i].revents != 0 || ended) ReadOutput(one);
        if (ended || clock_.MonotonicMs() >= one.end_ms)
          Finish(one, ended);
        else
          still.push_back(std::move(one));
      }
      running_ = std::move(still);
    }
  }

  // False: stopping.
  bool StartWaiting() {
    std::deque<std::string> nodes;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return false;
      for (; !waiting_.empty() && running_.size() + nodes.size() < options_.max_at_once; waiting_.pop_front())
        nodes.push_back(waiting_.front());
    }
    for (const auto& node : nodes) {
      auto started = Start(node);
      if (started)
        running_.push_back(std::move(*started));
      else
        notice_({.node = node, .message = started.error().message});
    }
    return true;
  }

  Result<Running> Start(const std::string& node) const {
    std::vector<std::string> words;
    std::istringstream agent(node == kLocalNode ? "/bin/sh -c" : options_.agent);
    for (std::string word; agent >> word;) words.push_back(word);
    if (words.empty())
      return Fail(ErrorCode::kInvalidInput, "the remote agent is empty; start the coordinator with --rsh-agent ssh");
    if (node != kLocalNode) words.push_back(node);
    words.push_back(ProbeQuestion(options_.worker, node == kLocalNode));
    std::vector<char*> pointers;
    for (auto& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return Fail(ErrorCode::kIo, "cannot ask host {}: pipe: {}", node, std::strerror(errno));
    ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    Running running{.node = node, .output = ends[0], .end_ms = clock_.MonotonicMs() + options_.timeout_ms};
    const int error = ::posix_spawnp(&running.pid, pointers[0], &actions, &attributes, pointers.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    ::close(ends[1]);
    if (error != 0) {
      ::close(ends[0]);
      return Fail(ErrorCode::kNotFound,
                  "cannot start the remote agent {}: {}; install it, or start the coordinator with another --rsh-agent", words[0],
                  std::strerror(error));
    }
    running.pidfd = static_cast<int>(::syscall(SYS_pidfd_open, running.pid, 0));
    return running;
  }

  static void ReadOutput(Running& one) {
    char buffer[4096];
    ssize_t n = 0;
    while ((n = ::read(one.output, buffer, sizeof buffer)) > 0)
      if (one.text.size() < kMaxOutputBytes) one.text.append(buffer, static_cast<size_t>(n));
    one.output_ended = n == 0;
  }

  std::string WhyNoReport(const std::string& text) const {
    const std::string said = LastLine(text);
    return fmt::format("`{} devices` told nothing there{}; the worker program belongs at the same path on every host",
                       options_.worker, said.empty() ? "" : ": " + said);
  }

  // The exit status. Closes what belongs to the probe.
  static int Collect(Running& one) {
    int status = 0;
    ::waitpid(one.pid, &status, 0);
    ::close(one.pidfd);
    ::close(one.output);
    return status;
  }

  void Finish(Running& one, bool ended) {
    ::kill(-one.pid, SIGKILL);  // also what it may have left behind
    const int status = Collect(one);
    ProbeAnswer answer{.node = one.node};
    const std::string too_late = fmt::format("no answer within {:.0f} s", static_cast<double>(options_.timeout_ms) / 1000.0);
    const int cores = CountCores(one.text);
    const bool hangs_over_gpus = !ended && cores > 0 && !options_.worker.empty();  // the host has said the rest
    if (hangs_over_gpus || (ended && WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
      answer.answered = true;
      answer.cores = cores;
      if (!options_.worker.empty()) answer.gpus = FindGpuReport(one.text);
      if (!options_.worker.empty() && !answer.gpus) answer.no_report = WhyNoReport(ended ? one.text : too_late);
    } else if (!ended) {
      answer.timed_out = true;
      answer.message = fmt::format("{} by `{} {}`", too_late, options_.agent, one.node);
    } else {
      const std::string said = LastLine(one.text);
      answer.message = fmt::format("`{} {}` failed: {}", options_.agent, one.node,
                                   said.empty() ? fmt::format("exit code {}", WEXITSTATUS(status)) : said);
    }
    notice_(answer);
  }

  AgentProberOptions options_;
  Notice notice_;
  SystemClock clock_;
  int wake_;
  std::mutex mutex_;
  std::deque<std::string> waiting_;  // guarded by mutex_
  bool stopping_ = false;            // guarded by mutex_
  std::vector<Running> running_;     // the thread's own
  std::thread thread_;
};

AgentProber::AgentProber(AgentProberOptions options, Notice notice)
    : watch_(std::make_unique<Watch>(std::move(options), std::move(notice))) {}
AgentProber::~AgentProber() = default;
void AgentProber::Probe(const std::string& node) { watch_->Post(node); }

}  // namespace plateau
