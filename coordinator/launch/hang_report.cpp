// What the processes of a hung attempt are doing, as /proc shows it.
#include "coordinator/launch/hang_report.h"

#include <array>
#include <string_view>

#include <fmt/format.h>

namespace plateau {
namespace {

constexpr std::array<std::string_view, 8> kStatusLines{"Name:", "State:", "PPid:", "VmRSS:", "Threads:", "SigPnd:", "ShdPnd:", "SigBlk:"};

// A file of /proc without its last line end; empty when it is gone or not ours to read.
std::string ReadProc(FileSystem& files, const std::string& path) {
  auto text = files.Read(path);
  if (!text) return {};
  while (!text->empty() && (text->back() == '\n' || text->back() == '\0')) text->pop_back();
  return *text;
}

// `text` line by line, each behind `indent`; only lines that `keep` wants.
template <typename Keep>
std::string Indented(std::string_view text, std::string_view indent, Keep keep) {
  std::string out;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (keep(text.substr(0, end))) out += fmt::format("{}{}\n", indent, text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

std::string DescribeThread(FileSystem& files, const std::string& folder, const std::string& thread) {
  const std::string status = ReadProc(files, folder + "/status");
  if (status.empty()) return {};
  const auto is_state = [](std::string_view line) { return line.starts_with("State:"); };
  std::string out = fmt::format("  thread {} ({})\n", thread, ReadProc(files, folder + "/comm"));
  out += Indented(status, "    ", is_state);
  for (const char* name : {"wchan", "syscall"})
    if (const std::string text = ReadProc(files, folder + "/" + name); !text.empty() && text != "0")
      out += fmt::format("    {}: {}\n", name, text);
  return out + Indented(ReadProc(files, folder + "/stack"), "    kernel: ", [](std::string_view) { return true; });
}

}  // namespace

std::string DescribeProcesses(FileSystem& files, const std::vector<int>& pids) {
  std::string out;
  for (const int pid : pids) {
    const std::string folder = fmt::format("/proc/{}", pid);
    const std::string status = ReadProc(files, folder + "/status");
    out += fmt::format("process {}{}\n", pid, status.empty() ? " is gone" : "");
    if (status.empty()) continue;
    out += Indented(status, "  ", [](std::string_view line) {
      for (const auto wanted : kStatusLines)
        if (line.starts_with(wanted)) return true;
      return false;
    });
    out += fmt::format("  stat: {}\n", ReadProc(files, folder + "/stat"));
    const auto threads = files.List(folder + "/task");
    if (!threads) continue;
    for (const auto& thread : *threads) out += DescribeThread(files, folder + "/task/" + thread, thread);
  }
  return out;
}

}  // namespace plateau
