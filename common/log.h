// Log lines: one line an event, UTC time, level, text. Thread-safe; spdlog stays in log.cpp.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace plateau {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Called once in main. `prefix` (such as "rank 0") stands before each text; colours only when stderr is a terminal.
void InitLog(std::string prefix, LogLevel level = LogLevel::kInfo);
void LogText(LogLevel level, std::string_view text);

template <typename... Args>
void LogInfo(fmt::format_string<Args...> format, Args&&... args) {
  LogText(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void LogWarning(fmt::format_string<Args...> format, Args&&... args) {
  LogText(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void LogError(fmt::format_string<Args...> format, Args&&... args) {
  LogText(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void LogDebug(fmt::format_string<Args...> format, Args&&... args) {
  LogText(LogLevel::kDebug, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace plateau
