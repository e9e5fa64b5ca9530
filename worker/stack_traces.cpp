// Stack traces of all threads on request.
#include "worker/stack_traces.h"

#include <execinfo.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "common/clock.h"
#include "common/file.h"

namespace plateau {
namespace {

constexpr int kMostFrames = 64;
constexpr long kThreadLimitNs = 100'000'000;  // a thread that has not answered by then sleeps where no signal reaches it
constexpr int64_t kAllLimitMs = 900;          // whoever asked waits a second

// Filled by the thread that was asked, in its signal handler.
struct Capture {
  std::atomic<pid_t> wanted{0};
  std::array<void*, kMostFrames> frames{};
  int count = 0;
  sem_t filled;
};
Capture capture;
std::atomic<bool> ending{false};

int CaptureSignal() { return SIGRTMIN + 3; }
pid_t ThisThread() { return static_cast<pid_t>(::syscall(SYS_gettid)); }

void OnCapture(int) {
  const int saved = errno;
  if (capture.wanted.load() == ThisThread()) {  // not when it comes too late
    capture.count = ::backtrace(capture.frames.data(), kMostFrames);
    ::sem_post(&capture.filled);
  }
  errno = saved;
}

void Write(int output, const std::string& text) {
  [[maybe_unused]] const auto written = ::write(output, text.data(), text.size());
}

std::string ReadProc(FileSystem& files, const std::string& path) {
  auto text = files.Read(path);
  if (!text) return {};
  while (!text->empty() && text->back() == '\n') text->pop_back();
  return *text;
}

// The rest of the line of /proc's status file that begins with `name`.
std::string StatusField(const std::string& status, const std::string& name) {
  const size_t begin = status.find("\n" + name + ":\t");
  if (begin == std::string::npos) return {};
  const size_t value = begin + name.size() + 3;
  return status.substr(value, status.find('\n', value) - value);
}

bool Blocks(const std::string& status, int signal) {
  return (std::strtoull(StatusField(status, "SigBlk").c_str(), nullptr, 16) >> (signal - 1) & 1) != 0;
}

// False when the thread did not answer in time.
bool CaptureStack(pid_t thread) {
  while (::sem_trywait(&capture.filled) == 0) {
  }
  capture.wanted = thread;
  if (::syscall(SYS_tgkill, ::getpid(), thread, CaptureSignal()) != 0) return false;
  timespec until{};
  ::clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += kThreadLimitNs;
  until.tv_sec += until.tv_nsec / 1'000'000'000;
  until.tv_nsec %= 1'000'000'000;
  const bool filled = ::sem_timedwait(&capture.filled, &until) == 0;
  capture.wanted = 0;
  return filled;
}

void DescribeThread(FileSystem& files, int output, pid_t thread) {
  const std::string folder = fmt::format("/proc/self/task/{}", thread);
  const std::string status = ReadProc(files, folder + "/status");
  if (status.empty()) return;  // it has ended
  Write(output, fmt::format("thread {} ({}): state {}, wchan {}, syscall {}\n", thread, ReadProc(files, folder + "/comm"),
                            StatusField(status, "State"), ReadProc(files, folder + "/wchan"), ReadProc(files, folder + "/syscall")));
  if (Blocks(status, CaptureSignal())) return Write(output, "  it blocks signals: no stack\n");
  if (!CaptureStack(thread)) return Write(output, "  it did not answer: no stack\n");
  ::backtrace_symbols_fd(capture.frames.data(), capture.count, output);
}

void DescribeAll(int output) {
  PosixFileSystem files;
  const SystemClock clock;
  const int64_t end_ms = clock.MonotonicMs() + kAllLimitMs;
  Write(output, fmt::format("=== stack traces of process {} at {}; c++filt makes the names readable ===\n", ::getpid(),
                            FormatUtc(clock.NowMs())));
  std::vector<pid_t> threads{::getpid()};
  if (const auto names = files.List("/proc/self/task"))
    for (const std::string& name : *names)
      if (const pid_t thread = std::atoi(name.c_str()); thread != ::getpid() && thread != ThisThread()) threads.push_back(thread);
  for (const pid_t thread : threads)
    if (clock.MonotonicMs() < end_ms) DescribeThread(files, output, thread);
  Write(output, "=== end of stack traces ===\n");
}

void Serve(int output) {
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGUSR2);
  while (!ending) {
    if (::sigwaitinfo(&wanted, nullptr) == SIGUSR2 && !ending) DescribeAll(output);
  }
}

}  // namespace

StackTraces::StackTraces(int output) {
  void* warm = nullptr;
  ::backtrace(&warm, 1);  // loads what it needs, so that it allocates nothing later
  ::sem_init(&capture.filled, 0, 0);
  struct sigaction action {};
  action.sa_handler = OnCapture;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  ::sigaction(CaptureSignal(), &action, nullptr);
  sigset_t traces, all, before;
  sigemptyset(&traces);
  sigaddset(&traces, SIGUSR2);
  ::pthread_sigmask(SIG_BLOCK, &traces, nullptr);
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // every other signal goes to the threads that wait for it
  ending = false;
  thread_ = std::thread([output] { Serve(output); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

StackTraces::~StackTraces() {
  ending = true;
  ::pthread_kill(thread_.native_handle(), SIGUSR2);
  thread_.join();
}

}  // namespace plateau
