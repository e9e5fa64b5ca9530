// The progress line: redrawn in place on a terminal, a plain line every ten seconds elsewhere.
#include "common/progress.h"

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>

#include "common/text.h"

namespace plateau {
namespace {

constexpr int64_t kQuietMs = 2000, kRedrawMs = 100, kLineMs = 10000;

std::string Grouped(uint64_t value) {
  std::string digits = std::to_string(value);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

int TerminalColumns() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 100;
}

}  // namespace

struct Progress::State {
  ProgressOptions options;
  const Clock& clock;
  std::mutex mutex;
  int64_t begin_ms = 0, drawn_ms = 0;
  bool terminal = false, drawn = false, finished = false;
};

Progress::Progress(ProgressOptions options, const Clock& clock) : state_(new State{std::move(options), clock}) {
  state_->begin_ms = clock.MonotonicMs();
  state_->drawn_ms = state_->begin_ms;
  state_->terminal = ::isatty(STDERR_FILENO) != 0;
}

Progress::~Progress() {
  if (state_->drawn && state_->terminal && !state_->finished) std::fputc('\n', stderr);
}

void Progress::Update(uint64_t done, const std::string& note) {
  const std::lock_guard lock(state_->mutex);
  const int64_t now_ms = state_->clock.MonotonicMs();
  if (state_->options.quiet || now_ms - state_->begin_ms < kQuietMs) return;
  if (state_->drawn && now_ms - state_->drawn_ms < (state_->terminal ? kRedrawMs : kLineMs)) return;
  state_->drawn = true;
  state_->drawn_ms = now_ms;
  const double elapsed_s = static_cast<double>(now_ms - state_->begin_ms) / 1000;
  const std::string line = Render(state_->options, done, elapsed_s, state_->terminal ? TerminalColumns() : 100, note);
  fmt::print(stderr, "{}{}{}", state_->terminal ? "\r\033[K" : "", line, state_->terminal ? "" : "\n");
  std::fflush(stderr);
}

void Progress::Finish(uint64_t done) {
  const std::lock_guard lock(state_->mutex);
  if (state_->finished) return;
  state_->finished = true;
  if (state_->options.quiet || !state_->drawn) return;
  const double elapsed_s = static_cast<double>(state_->clock.MonotonicMs() - state_->begin_ms) / 1000;
  fmt::print(stderr, "{}{}\n", state_->terminal ? "\r\033[K" : "",
             Render(state_->options, done, elapsed_s, state_->terminal ? TerminalColumns() : 100, "done in " + HumanDuration(elapsed_s)));
  std::fflush(stderr);
}

std::string Progress::Render(const ProgressOptions& options, uint64_t done, double elapsed_s, int columns, const std::string& note) {
  const double rate = elapsed_s > 0 ? static_cast<double>(done) / elapsed_s : 0;
  std::string tail = options.total > 0 ? fmt::format(" {}/{} {}", Grouped(done), Grouped(options.total), options.unit)
                                       : fmt::format(" {} {}", Grouped(done), options.unit);
  tail += rate >= 10 ? fmt::format("  {} {}/s", Grouped(static_cast<uint64_t>(rate)), options.unit) : fmt::format("  {:.2f} {}/s", rate, options.unit);
  if (options.total > done && rate > 0) tail += "  ETA " + HumanDuration(static_cast<double>(options.total - done) / rate);
  if (!note.empty()) tail += "  " + note;
  std::string line = options.label;
  if (options.total > 0) {
    const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(options.total));
    line += fmt::format(" {:3.0f}%", share * 100);
    const int room = std::clamp(columns - static_cast<int>(line.size() + tail.size()) - 4, 0, 30);
    if (room >= 5) {
      const int filled = static_cast<int>(share * room);
      line += fmt::format(" [{}{}]", std::string(static_cast<size_t>(filled), '#'), std::string(static_cast<size_t>(room - filled), '.'));
    }
  }
  line += tail;
  if (static_cast<int>(line.size()) > columns - 1) line.resize(static_cast<size_t>(std::max(columns - 1, 0)));
  return line;
}

}  // namespace plateau
