// Reads and writes choices of algorithms.
#include "worker/train/choices_files.h"

#include <cstdlib>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "common/log.h"
#include "worker/train/run_folder.h"

namespace plateau {
namespace {

using Json = nlohmann::json;
constexpr int kCacheVersion = 1;
constexpr size_t kMostCached = 20'000;  // then the file begins anew: it outlives drivers and devices

Result<ChoiceTable> ParseCache(const std::string& text, const std::string& path) {
  try {
    const Json json = Json::parse(text);
    if (json.at("version") != kCacheVersion)
      return Fail(ErrorCode::kUnsupported, "{}: version {}, this build reads {}", path, json.at("version").dump(), kCacheVersion);
    return json.at("choices").get<ChoiceTable>();
  } catch (const std::exception& fault) {
    return Fail(ErrorCode::kCorrupt, "{}: {}", path, fault.what());
  }
}

}  // namespace

std::string EncodeChoices(const ChoiceTable& table) { return Json(table).dump(); }

Result<ChoiceTable> DecodeChoices(const std::string& text, const std::string& where) {
  try {
    return Json::parse(text).get<ChoiceTable>();
  } catch (const std::exception& fault) {
    return Fail(ErrorCode::kCorrupt, "{}: {}", where, fault.what());
  }
}

std::optional<CheckpointState> ReadRecorded(FileSystem& files, const std::string& run_folder, const std::string& resume) {
  if (resume == "none") return std::nullopt;
  std::string folder = resume;
  if (resume == "auto") {
    const auto current = ReadCurrent(files, run_folder);
    if (!current || !*current) return std::nullopt;
    folder = run_folder + "/" + (*current)->path;
  }
  const auto text = files.Read(folder + "/state.json");
  if (!text) return std::nullopt;
  auto state = DecodeState(*text, folder + "/state.json");
  return state ? std::optional(std::move(*state)) : std::nullopt;
}

std::string ChoicesCachePath() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/') return std::string(cache) + "/plateau/algorithms.json";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') return std::string(home) + "/.cache/plateau/algorithms.json";
  return "";
}

ChoiceTable ReadChoicesCache(FileSystem& files, const std::string& path) {
  if (path.empty() || !files.Exists(path)) return {};
  const auto text = files.Read(path);
  auto table = text ? ParseCache(*text, path) : Result<ChoiceTable>(Fail(text.error()));
  if (table) return std::move(*table);
  LogWarning("{}; the file is ignored and algorithms are timed anew", table.error().message);
  return {};
}

Status AddToChoicesCache(FileSystem& files, const std::string& path, const ChoiceTable& timed) {
  if (path.empty() || timed.empty()) return {};
  ChoiceTable table;
  if (files.Exists(path))
    if (const auto text = files.Read(path); text)
      if (auto known = ParseCache(*text, path); known && known->size() + timed.size() <= kMostCached) table = std::move(*known);
  for (const auto& [key, choice] : timed) table[key] = choice;
  PLATEAU_TRY(files.MakeDirectories(std::filesystem::path(path).parent_path().string()));
  return WriteFileAtomic(files, path, Json{{"version", kCacheVersion}, {"choices", table}}.dump(1) + "\n");
}

std::unique_ptr<RecordedChoices> OpenChoices(FileSystem& files, int rank, ChoiceTable recorded, RecordedChoices::Use use) {
  return std::make_unique<RecordedChoices>(std::move(recorded),
                                           rank == 0 ? ReadChoicesCache(files, ChoicesCachePath()) : ChoiceTable(), use);
}

void KeepTimedChoices(FileSystem& files, const RecordedChoices& choices) {
  if (const Status kept = AddToChoicesCache(files, ChoicesCachePath(), choices.timed()); !kept)
    LogWarning("{}; the next run times its algorithms again", kept.error().message);
}

}  // namespace plateau
