// JSON files of an attempt's folder and its lock.
#include "coordinator/launch/attempt_files.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kFileVersion = 1;

Status WriteJson(FileSystem& files, const std::string& path, const Json& json) {
  return WriteFileAtomic(files, path, json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

// Reads a file of ours and hands its JSON to `parse`; a malformed one is kCorrupt and names the path.
template <typename T, typename Parse>
Result<T> ReadJson(FileSystem& files, const std::string& path, Parse parse) {
  PLATEAU_ASSIGN(const std::string text, files.Read(path));
  try {
    const Json json = Json::parse(text);
    if (json.at("version") != kFileVersion)
      return Fail(ErrorCode::kCorrupt, "{}: version {} is not known", path, json.at("version").dump());
    return parse(json);
  } catch (const nlohmann::json::exception& error) {
    return Fail(ErrorCode::kCorrupt, "{}: cannot be read: {}", path, error.what());
  }
}

}  // namespace

Status WriteLaunchFile(FileSystem& files, const LaunchRequest& request) {
  Json environment = Json::object();
  for (const auto& [name, value] : request.environment) environment[name] = value;
  return WriteJson(files, request.folder + "/launch.json",
                   {{"version", kFileVersion},
                    {"job", request.job},
                    {"attempt", request.attempt},
                    {"arguments", request.arguments},
                    {"environment", environment},
                    {"scratch", request.scratch},
                    {"grace_ms", request.grace_ms}});
}

Result<LaunchRequest> ReadLaunchFile(FileSystem& files, const std::string& folder) {
  return ReadJson<LaunchRequest>(files, folder + "/launch.json", [&](const Json& json) {
    LaunchRequest request;
    request.job = json.at("job");
    request.attempt = json.at("attempt");
    request.folder = folder;
    request.arguments = json.at("arguments").get<std::vector<std::string>>();
    for (const auto& [name, value] : json.at("environment").items())
      request.environment.emplace_back(name, value.get<std::string>());
    request.scratch = json.at("scratch");
    request.grace_ms = json.at("grace_ms");
    return request;
  });
}

Status WriteSupervisorFile(FileSystem& files, const std::string& folder, const SupervisorFile& s) {
  return WriteJson(files, folder + "/supervisor.json",
                   {{"version", kFileVersion},
                    {"pid", s.pid},
                    {"mpirun_pid", s.mpirun_pid},
                    {"session", s.session.session},
                    {"start_ticks", s.session.start_ticks},
                    {"boot_id", s.session.boot_id},
                    {"marker", s.session.marker},
                    {"started", FormatUtc(s.started_ms)},
                    {"started_ms", s.started_ms}});
}

Result<SupervisorFile> ReadSupervisorFile(FileSystem& files, const std::string& folder) {
  return ReadJson<SupervisorFile>(files, folder + "/supervisor.json", [](const Json& json) {
    SupervisorFile s;
    s.pid = json.at("pid");
    s.mpirun_pid = json.at("mpirun_pid");
    s.session = {json.at("session"), json.at("start_ticks"), json.at("boot_id"), json.at("marker")};
    s.started_ms = json.at("started_ms");
    return s;
  });
}

Status WriteExitFile(FileSystem& files, const std::string& folder, const ExitNotice& notice, const Clock& clock) {
  return WriteJson(files, folder + "/exit.json",
                   {{"version", kFileVersion},
                    {"job", notice.job},
                    {"attempt", notice.attempt},
                    {"launched", notice.launched},
                    {"exit_code", notice.exit_code},
                    {"signal", notice.signal},
                    {"message", notice.message},
                    {"ended", FormatUtc(clock.NowMs())}});
}

Result<ExitNotice> ReadExitFile(FileSystem& files, const std::string& folder) {
  return ReadJson<ExitNotice>(files, folder + "/exit.json", [](const Json& json) {
    return ExitNotice{json.at("job"),       json.at("attempt"), json.at("launched"),
                      json.at("exit_code"), json.at("signal"),  json.at("message")};
  });
}

Status LinkLogs(const std::string& folder, const std::string& logs) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const std::filesystem::path link = folder + "/logs";
  if (std::filesystem::read_symlink(link, error) == logs) return {};
  std::filesystem::create_directory_symlink(logs, link, error);
  if (error) return Fail(ErrorCode::kIo, "{}: cannot lead to {}: {}", link.string(), logs, error.message());
  return {};
}

Result<std::optional<AttemptLock>> AttemptLock::Try(const std::string& folder) {
  const std::string path = folder + "/lock";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0)
    return Fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "{}: cannot open: {}", path, std::strerror(errno));
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return std::optional<AttemptLock>(AttemptLock(fd));
  const int error = errno;
  ::close(fd);
  if (error == EWOULDBLOCK) return std::optional<AttemptLock>();
  return Fail(ErrorCode::kIo, "{}: cannot lock: {}; the state folder must be on a local disk", path, std::strerror(error));
}

int64_t AttemptLock::HolderPid(const std::string& folder) {
  PosixFileSystem files;
  const auto text = files.Read(folder + "/lock");
  return text ? std::atoll(text->c_str()) : 0;
}

AttemptLock::~AttemptLock() {
  if (fd_ >= 0) ::close(fd_);
}

Status AttemptLock::WritePid(int64_t pid) {
  const std::string text = std::to_string(pid) + "\n";
  if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    return Fail(ErrorCode::kIo, "cannot write the pid into the attempt's lock file: {}", std::strerror(errno));
  return {};
}

}  // namespace plateau
