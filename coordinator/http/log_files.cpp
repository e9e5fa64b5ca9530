// Log files read piece by piece.
#include "coordinator/http/log_files.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "coordinator/http/api.h"

namespace plateau {
namespace {

bool IsPlainName(const std::string& name) {
  return !name.empty() && name.size() <= 100 && name[0] != '.' &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == std::string::npos;
}

}  // namespace

ApiResponse ReadLog(const Service& service, const Job& job, int attempt, const std::string& file, int64_t offset,
                    const ApiRequest& request) {
  if (!IsPlainName(file))
    return Problem(400, "query: file must be a plain file name such as rank-0.log; ?list=1 lists them", request.target);
  if (attempt == 0) return Problem(404, "job " + job.id + " has had no attempt yet, so there are no logs", request.target);
  const std::string path = service.LogFolder(job.id, attempt) + "/" + file;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  struct stat info {};
  if (fd < 0 || ::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    if (fd >= 0) ::close(fd);
    return Problem(404, fmt::format("attempt {} of job {} has no log {} (yet); ?list=1 lists what there is", attempt, job.id, file),
                   request.target);
  }
  const int64_t start = std::min<int64_t>(offset, info.st_size);
  ApiResponse response;
  response.body.resize(static_cast<size_t>(std::min(kMaxLogBytesPerAnswer, info.st_size - start)));
  const ssize_t got = ::pread(fd, response.body.data(), response.body.size(), start);
  const int error = errno;
  ::close(fd);
  if (got < 0) return Problem(500, fmt::format("{}: cannot read: {}", path, std::strerror(error)), request.target);
  response.body.resize(static_cast<size_t>(got));
  response.content_type = "text/plain; charset=utf-8";
  response.headers = {{"Plateau-Next-Offset", std::to_string(start + got)}, {"Plateau-Attempt", std::to_string(attempt)}};
  return response;
}

ApiResponse ListLogs(FileSystem& files, const Service& service, const Job& job, const ApiRequest& request) {
  nlohmann::ordered_json attempts = nlohmann::ordered_json::array();
  for (const auto& attempt : job.attempts) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    const std::string folder = service.LogFolder(job.id, attempt.number);
    const auto names = files.List(folder);
    if (!names && names.error().code != ErrorCode::kNotFound) return Problem(500, names.error().message, request.target);
    if (names) {
      for (const auto& name : *names) {
        const auto bytes = files.Size(folder + "/" + name);
        if (bytes) list.push_back({{"name", name}, {"bytes", *bytes}});
      }
    }
    attempts.push_back({{"attempt", attempt.number}, {"files", list}});
  }
  ApiResponse response;
  response.body = nlohmann::ordered_json{{"attempts", attempts}}.dump();
  return response;
}

}  // namespace plateau
