// Looks through the folders of a job's earlier attempts.
#include "worker/evaluate_kept.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

// Whether the file that the result names under `field` lies in the job's folder.
bool HasFile(FileSystem& files, const std::string& job_folder, const Json& result, const char* field) {
  const auto found = result.find(field);
  return found != result.end() && found->is_string() && files.Exists(job_folder + "/" + found->get<std::string>());
}

bool Says(const Json& result, const WantedResult& wanted) {
  const Json right = {{"version", 1},
                      {"kind", "evaluate"},
                      {"images", wanted.images},
                      {"scales", wanted.scales},
                      {"mode", wanted.mode},
                      {"flip", wanted.flip},
                      {"device", wanted.device},
                      {"precision", wanted.precision},
                      {"checkpoint_checksum", wanted.checkpoint_checksum},
                      {"split_checksum", wanted.split_checksum}};
  return result.is_object() && std::ranges::all_of(right.items(), [&](const auto& field) {
           const auto found = result.find(field.key());
           return found != result.end() && *found == field.value();
         });
}

}  // namespace

std::string EvaluateAttemptFolder(int attempt) { return fmt::format("attempt-{}", std::max(attempt, 1)); }

KeptResult FindKeptResult(FileSystem& files, const std::string& job_folder, int attempt, const WantedResult& wanted) {
  for (int earlier = attempt - 1; earlier >= 1; --earlier) {
    const auto text = files.Read(job_folder + "/" + EvaluateAttemptFolder(earlier) + "/" + kResultFile);
    if (!text) continue;
    const Json result = Json::parse(*text, nullptr, false);
    if (!Says(result, wanted)) continue;
    if (wanted.posteriors && !HasFile(files, job_folder, result, "posteriors")) continue;
    if (wanted.per_class && !HasFile(files, job_folder, result, "per_class")) continue;
    return {earlier, result.dump()};
  }
  return {};
}

}  // namespace plateau
