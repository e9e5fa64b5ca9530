// Texts of nodes: state names, the store's record, the API's view.
#include "coordinator/node/node.h"

#include <nlohmann/json.hpp>

#include "common/clock.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kRecordVersion = 1;

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Result<NodeState> StateFromName(const std::string& name) {
  for (const NodeState state : {NodeState::kReady, NodeState::kChecking, NodeState::kLost})
    if (name == NodeStateName(state)) return state;
  return Fail(ErrorCode::kCorrupt, "a node record in the state store has the unknown state \"{}\"", name);
}

Json GpusJson(const std::vector<Gpu>& gpus) {
  Json list = Json::array();
  for (const Gpu& gpu : gpus) list.push_back({{"id", gpu.id}, {"name", gpu.name}, {"memory_bytes", gpu.memory_bytes}});
  return list;
}

std::vector<Gpu> ParseGpus(const Json& list) {
  std::vector<Gpu> gpus;
  for (const auto& one : list) gpus.push_back({one.at("id"), one.at("name"), one.at("memory_bytes")});
  return gpus;
}

// The GPUs of a node, each with the job that has it.
Json GpusViewJson(const NodeStatus& status) {
  Json gpus = GpusJson(status.node.gpus());
  for (auto& gpu : gpus) {
    const auto job = status.gpu_jobs.find(gpu.at("id"));
    gpu["job"] = job == status.gpu_jobs.end() ? Json(nullptr) : Json(job->second);
  }
  return gpus;
}

Json ViewJson(const NodeStatus& status) {
  const Node& node = status.node;
  Json history = Json::array();
  for (const auto& change : node.history)
    history.push_back({{"time", FormatUtc(change.time_ms)}, {"state", NodeStateName(change.state)}, {"message", change.message}});
  return {{"name", node.name},
          {"cores", node.cores},
          {"used_cores", status.used_cores},
          {"gpus", GpusViewJson(status)},
          {"used_gpus", status.gpu_jobs.size()},
          {"gpus_given", node.gpus_given},
          {"no_gpus_why", node.WhyNoGpus()},
          {"gpus_note", node.GpusNote()},
          {"state", NodeStateName(node.state())},
          {"message", node.message()},
          {"since", FormatUtc(node.history.back().time_ms)},
          {"local", node.local()},
          {"implicit", status.implicit},
          {"jobs", status.jobs},
          {"history", history}};
}

}  // namespace

std::vector<Gpu> Node::gpus() const {
  std::vector<Gpu> offered = OfferedGpus(gpus_given, host_gpus);
  for (const MissingGpu& gone : missing_gpus) std::erase_if(offered, [&](const Gpu& gpu) { return gpu.id == gone.id; });
  return offered;
}

std::string Node::GpusNote() const {
  std::string note;
  for (const MissingGpu& gone : missing_gpus)
    note += fmt::format("{}GPU {} does not answer and is not offered: {}", note.empty() ? "" : "; ", gone.id, gone.why);
  if (!host_gpus.empty() && !no_gpus_why.empty()) note += fmt::format("{}its GPUs are as it last told: {}", note.empty() ? "" : "; ", no_gpus_why);
  return note;
}

std::string Node::WhyNoGpus() const {
  if (!gpus().empty()) return "";
  if (!missing_gpus.empty()) return GpusNote();
  if (!gpus_given.empty()) return "none of its GPUs is offered (--gpus 0)";
  if (!gpus_told && !local()) return "it has not been asked yet";
  return no_gpus_why;
}

const char* NodeStateName(NodeState state) {
  switch (state) {
    case NodeState::kReady: return "READY";
    case NodeState::kChecking: return "CHECKING";
    case NodeState::kLost: return "LOST";
  }
  return "LOST";
}

std::string NodeRecordText(const Node& node) {
  Json history = Json::array();
  for (const auto& change : node.history)
    history.push_back({{"time_ms", change.time_ms}, {"state", NodeStateName(change.state)}, {"message", change.message}});
  return Dump({{"v", kRecordVersion},
               {"name", node.name},
               {"cores", node.cores},
               {"cores_given", node.cores_given},
               {"host_gpus", GpusJson(node.host_gpus)},
               {"no_gpus_why", node.no_gpus_why},
               {"gpus_told", node.gpus_told},
               {"gpus_given", node.gpus_given},
               {"order", node.order},
               {"from_hostfile", node.from_hostfile},
               {"history", history}});
}

Result<Node> ParseNodeRecord(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    if (json.at("v") != kRecordVersion)
      return Fail(ErrorCode::kCorrupt, "a node record has version {}, this coordinator reads {}; use the one that wrote this state",
                  json.at("v").dump(), kRecordVersion);
    Node node{.name = json.at("name"),
              .cores = json.at("cores"),
              .cores_given = json.at("cores_given"),
              .order = json.at("order"),
              .from_hostfile = json.at("from_hostfile")};
    if (json.contains("host_gpus")) {  // absent in records of earlier releases
      node.host_gpus = ParseGpus(json.at("host_gpus"));
      node.no_gpus_why = json.at("no_gpus_why");
      node.gpus_told = json.at("gpus_told");
      node.gpus_given = json.at("gpus_given");
    }
    for (const auto& one : json.at("history")) {
      PLATEAU_ASSIGN(const NodeState state, StateFromName(one.at("state")));
      node.history.push_back({one.at("time_ms"), state, one.at("message")});
    }
    if (node.history.empty()) return Fail(ErrorCode::kCorrupt, "the record of node {} has no history", node.name);
    return node;
  } catch (const nlohmann::json::exception& error) {
    return Fail(ErrorCode::kCorrupt, "a node record in the state store cannot be read: {}", error.what());
  }
}

std::string NodeViewText(const NodeStatus& status) { return Dump(ViewJson(status)); }

std::string NodeListText(const std::vector<NodeStatus>& nodes) {
  Json list = Json::array();
  for (const auto& status : nodes) list.push_back(ViewJson(status));
  return Dump({{"nodes", list}});
}

}  // namespace plateau
