// spdlog behind four functions, so that its headers are compiled once.
#include "common/log.h"

#include <memory>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace plateau {

void InitLog(std::string prefix, LogLevel level) {
  auto logger = std::make_shared<spdlog::logger>("plateau", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %^%-7l%$ " + (prefix.empty() ? std::string() : prefix + ": ") + "%v",
                      spdlog::pattern_time_type::utc);
  logger->set_level(level == LogLevel::kDebug     ? spdlog::level::debug
                    : level == LogLevel::kInfo    ? spdlog::level::info
                    : level == LogLevel::kWarning ? spdlog::level::warn
                                                  : spdlog::level::err);
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
}

void LogText(LogLevel level, std::string_view text) {
  const spdlog::string_view_t view(text.data(), text.size());
  switch (level) {
    case LogLevel::kDebug: spdlog::debug(view); break;
    case LogLevel::kInfo: spdlog::info(view); break;
    case LogLevel::kWarning: spdlog::warn(view); break;
    case LogLevel::kError: spdlog::error(view); break;
  }
}

}  // namespace plateau
