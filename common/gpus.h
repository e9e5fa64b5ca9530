// GPUs in the texts that coordinator and workers share: what a host tells of its own, what people offer of them, what a launch
// grants.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/error.h"

namespace plateau {

// A device of a host.
struct Gpu {
  std::string id;             // as CUDA_VISIBLE_DEVICES takes it on that host: a number or a UUID
  std::string name{};         // "NVIDIA H200"; empty: not told
  uint64_t memory_bytes = 0;  // 0: not told
  bool operator==(const Gpu&) const = default;
};

struct GpuReport {
  std::vector<Gpu> gpus;
  std::string reason;  // why there are none, with the remedy; empty where there are
  bool operator==(const GpuReport&) const = default;
};

// One line of JSON, as `plateau-worker devices --json` prints it:
// {"plateau_gpus":1,"gpus":[{"id","name","memory_bytes"}],"reason"}.
std::string GpuReportLine(const GpuReport& report);
// That line among others; nothing when there is none.
std::optional<GpuReport> FindGpuReport(const std::string& output);

// Ids of the first `devices` devices of a process with this CUDA_VISIBLE_DEVICES; nullptr: it is not set.
std::vector<std::string> VisibleGpuIds(size_t devices, const char* visible);

// An offer is "2" (the first two), "0,3" (these ids), "3," (that one alone), "0" (none) or empty (all of the host).
// kInvalidInput with `field` in front.
Status CheckGpuOffer(const std::string& offer, const std::string& field);
// Ids that the host has not told are taken from the offer as they are; a count beyond what it told becomes the lowest other
// numbers, but not where it told UUIDs, since a number may be one of these. `offer` has been checked.
std::vector<Gpu> OfferedGpus(const std::string& offer, const std::vector<Gpu>& told);

// In the environment of an attempt's ranks: the id of each rank's GPU in the order of ranks, "0,1,0"; kNoGpus: they run on the CPU.
inline constexpr const char* kGpusVariable = "PLATEAU_GPUS";
inline constexpr const char* kNoGpus = "none";
std::string GrantText(const std::vector<std::string>& ids);
// CUDA_VISIBLE_DEVICES of a rank under that grant. kInvalidInput: it has no entry for the rank.
Result<std::string> GrantOf(const std::string& grant, int rank);

}  // namespace plateau
