// Texts about GPUs, written and read.
#include "common/gpus.h"

#include <algorithm>
#include <charconv>
#include <set>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "common/text.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kLineVersion = 1;
constexpr const char* kLineFront = "{\"plateau_gpus\":";
constexpr int kMostGpus = 1024;
constexpr const char* kForms = "write how many (2), their ids (0,3), or one id with a comma (3,)";

std::optional<GpuReport> ParseLine(const std::string& line) {
  const Json json = Json::parse(line, nullptr, false);
  try {
    if (!json.is_object() || json.at("plateau_gpus") != kLineVersion) return {};
    GpuReport report{.gpus = {}, .reason = json.at("reason")};
    for (const auto& one : json.at("gpus")) report.gpus.push_back({one.at("id"), one.at("name"), one.at("memory_bytes")});
    return report;
  } catch (const nlohmann::json::exception&) {
    return {};
  }
}

// Nothing: the offer is a list of ids.
std::optional<int> CountOf(const std::string& offer) {
  int count = 0;
  const auto [end, error] = std::from_chars(offer.data(), offer.data() + offer.size(), count);
  return error == std::errc() && end == offer.data() + offer.size() ? std::optional(count) : std::nullopt;
}

std::vector<std::string> IdsOf(const std::string& list) {
  std::vector<std::string> ids = SplitText(list, ',');
  for (std::string& id : ids) {
    id.erase(0, id.find_first_not_of(' '));
    id.erase(id.find_last_not_of(' ') + 1);
  }
  if (ids.back().empty()) ids.pop_back();  // after the comma at the end
  return ids;
}

bool IsNumber(const std::string& id) { return !id.empty() && id.find_first_not_of("0123456789") == std::string::npos; }

bool IsGpuId(const std::string& id) {
  if (id.starts_with("GPU-") || id.starts_with("MIG-"))
    return id.size() <= 80 &&
           id.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-/") == std::string::npos;
  return id.size() <= 4 && IsNumber(id);
}

bool Has(const std::vector<Gpu>& gpus, const std::string& id) {
  return std::any_of(gpus.begin(), gpus.end(), [&](const Gpu& gpu) { return gpu.id == id; });
}

}  // namespace

std::string GpuReportLine(const GpuReport& report) {
  Json gpus = Json::array();
  for (const Gpu& gpu : report.gpus) gpus.push_back({{"id", gpu.id}, {"name", gpu.name}, {"memory_bytes", gpu.memory_bytes}});
  return Json{{"plateau_gpus", kLineVersion}, {"gpus", gpus}, {"reason", report.reason}}.dump(-1, ' ', false,
                                                                                              Json::error_handler_t::replace);
}

std::optional<GpuReport> FindGpuReport(const std::string& output) {
  for (const std::string& line : SplitText(output, '\n'))
    if (line.starts_with(kLineFront)) return ParseLine(line);
  return {};
}

std::vector<std::string> VisibleGpuIds(size_t devices, const char* visible) {
  std::vector<std::string> ids = visible == nullptr ? std::vector<std::string>{} : IdsOf(visible);
  for (size_t i = ids.size(); i < devices; ++i) ids.push_back(std::to_string(i));
  ids.resize(devices);
  return ids;
}

Status CheckGpuOffer(const std::string& offer, const std::string& field) {
  if (offer.empty()) return {};
  if (const auto count = CountOf(offer)) {
    if (*count >= 0 && *count <= kMostGpus) return {};
    return Fail(ErrorCode::kInvalidInput, "{}: {} is no number of GPUs from 0 to {}; {}", field, offer, kMostGpus, kForms);
  }
  std::set<std::string> seen;
  for (const std::string& id : IdsOf(offer)) {
    if (!IsGpuId(id)) return Fail(ErrorCode::kInvalidInput, "{}: \"{}\" in \"{}\" is no id of a GPU; {}", field, id, offer, kForms);
    if (!seen.insert(id).second)
      return Fail(ErrorCode::kInvalidInput, "{}: \"{}\" names GPU {} twice; {}", field, offer, id, kForms);
  }
  if (seen.size() > kMostGpus) return Fail(ErrorCode::kInvalidInput, "{}: names more than {} GPUs; {}", field, kMostGpus, kForms);
  return {};
}

std::vector<Gpu> OfferedGpus(const std::string& offer, const std::vector<Gpu>& told) {
  if (offer.empty()) return told;
  std::vector<Gpu> offered;
  if (const auto count = CountOf(offer)) {
    const auto wanted = static_cast<size_t>(*count);
    offered.assign(told.begin(), told.begin() + static_cast<std::ptrdiff_t>(std::min(wanted, told.size())));
    if (std::any_of(told.begin(), told.end(), [](const Gpu& gpu) { return !IsNumber(gpu.id); })) return offered;
    for (int number = 0; offered.size() < wanted; ++number)
      if (!Has(offered, std::to_string(number))) offered.push_back({.id = std::to_string(number)});
    return offered;
  }
  for (const std::string& id : IdsOf(offer)) {
    const auto known = std::find_if(told.begin(), told.end(), [&](const Gpu& gpu) { return gpu.id == id; });
    offered.push_back(known == told.end() ? Gpu{.id = id} : *known);
  }
  return offered;
}

std::string GrantText(const std::vector<std::string>& ids) {
  return ids.empty() ? kNoGpus : fmt::format("{}", fmt::join(ids, ","));
}

Result<std::string> GrantOf(const std::string& grant, int rank) {
  if (grant == kNoGpus) return std::string();
  const std::vector<std::string> ids = SplitText(grant, ',');
  if (rank >= 0 && rank < static_cast<int>(ids.size()) && IsGpuId(ids[static_cast<size_t>(rank)]))
    return ids[static_cast<size_t>(rank)];
  return Fail(ErrorCode::kInvalidInput,
              "{}=\"{}\" names no GPU for rank {}; it is set by the coordinator: one id a rank, or \"{}\"", kGpusVariable, grant,
              rank, kNoGpus);
}

}  // namespace plateau
