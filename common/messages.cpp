// JSON forms of the worker link's messages.
#include "common/messages.h"

#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

namespace plateau {
namespace {

using Json = nlohmann::json;

// JSON has no NaN or infinity: they travel as null.
Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }
double ToNumber(const Json& value) { return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>(); }

struct Encoder {
  Json& json;
  void operator()(const Heartbeat& m) {
    json.update({{"type", "heartbeat"}, {"step", m.step}, {"phase", m.phase}, {"progress", m.progress}, {"collective", m.collective}});
  }
  void operator()(const Metrics& m) {
    json.update({{"type", "metrics"}, {"step", m.step}, {"epoch", m.epoch}, {"loss", Number(m.loss)}, {"lr", m.lr},
                 {"images_per_s", m.images_per_s}, {"data_wait_share", m.data_wait_share}});
  }
  void operator()(const ValidationReport& m) {
    json.update({{"type", "validation"}, {"number", m.number}, {"step", m.step}, {"epoch", m.epoch}, {"images", m.images},
                 {"top1_correct", m.top1_correct}, {"top5_correct", m.top5_correct}, {"loss", Number(m.loss)}});
  }
  void operator()(const CheckpointReport& m) {
    json.update({{"type", "checkpoint"}, {"step", m.step}, {"validation", m.validation}, {"metric", Number(m.metric)},
                 {"path", m.path}, {"bytes", m.bytes}, {"final", m.final}, {"order", m.order}, {"lineage", m.lineage}});
  }
  void operator()(const Finished& m) {
    json.update({{"type", "finished"}, {"step", m.step}, {"reason", m.reason}});
    if (!m.result.empty()) json["result"] = Json::parse(m.result);
  }
  void operator()(const Failed& m) {
    json.update({{"type", "failed"}, {"reason", m.reason}, {"message", m.message}, {"step", m.step}, {"layer", m.layer},
                 {"retry", m.retry}});
  }
  void operator()(const Register& m) {
    json.update({{"type", "register"}, {"key", m.key}, {"spec", Json::parse(m.spec)}, {"hosts", m.hosts}});
  }
};

WorkerMessage DecodeBody(const std::string& type, const Json& json) {
  if (type == "heartbeat") return Heartbeat{json.at("step"), json.at("phase"), json.at("progress"), json.at("collective")};
  if (type == "metrics")
    return Metrics{json.at("step"), json.at("epoch"), ToNumber(json.at("loss")), json.at("lr"), json.at("images_per_s"),
                   json.at("data_wait_share")};
  if (type == "validation")
    return ValidationReport{json.at("number"), json.at("step"), json.at("epoch"), json.at("images"), json.at("top1_correct"),
                            json.at("top5_correct"), ToNumber(json.at("loss"))};
  if (type == "checkpoint")
    return CheckpointReport{json.at("step"), json.at("validation"), ToNumber(json.at("metric")), json.at("path"), json.at("bytes"),
                            json.at("final"), json.at("order"), json.at("lineage")};
  if (type == "finished") return Finished{json.at("step"), json.at("reason"), json.contains("result") ? json.at("result").dump() : ""};
  if (type == "failed")
    return Failed{json.at("reason"), json.at("message"), json.at("step"), json.at("layer"), json.at("retry")};
  if (type == "register") return Register{json.at("key"), json.at("spec").dump(), json.at("hosts").get<std::vector<std::string>>()};
  throw std::runtime_error("type \"" + type + "\" is not known");
}

const char* CommandName(WorkerCommand command) {
  switch (command) {
    case WorkerCommand::kContinue: return "continue";
    case WorkerCommand::kStop: return "stop";
    case WorkerCommand::kCheckpoint: return "checkpoint";
  }
  return "continue";
}

WorkerCommand CommandFromName(const std::string& name) {
  for (const WorkerCommand command : {WorkerCommand::kContinue, WorkerCommand::kStop, WorkerCommand::kCheckpoint})
    if (name == CommandName(command)) return command;
  throw std::runtime_error("command \"" + name + "\" is not known");
}

LrAction ActionFromName(const std::string& name) {
  for (const LrAction action : {LrAction::kKeep, LrAction::kDecay, LrAction::kStop})
    if (name == LrActionName(action)) return action;
  throw std::runtime_error("action \"" + name + "\" is not known");
}

void CheckVersion(const Json& json) {
  const int version = json.at("version");
  if (version != kLinkVersion)
    throw std::runtime_error(fmt::format("version {} is not {}: worker and coordinator must be of the same release", version, kLinkVersion));
}

}  // namespace

double ValidationReport::Metric(const std::string& name) const {
  if (name == "val_loss") return loss;
  return name == "val_top5_error" ? Top5Error() : Top1Error();
}

std::string EncodeWorkerMessage(const Sender& sender, const WorkerMessage& message) {
  Json json{{"version", kLinkVersion}, {"job", sender.job},   {"attempt", sender.attempt}, {"token", sender.token},
            {"rank", sender.rank},     {"host", sender.host}, {"pid", sender.pid},         {"request", sender.request}};
  std::visit(Encoder{json}, message);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<std::pair<Sender, WorkerMessage>> DecodeWorkerMessage(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    CheckVersion(json);
    Sender sender{json.at("job"), json.at("attempt"), json.at("token"), json.at("rank"), json.at("host"), json.at("pid"), json.at("request")};
    return std::pair<Sender, WorkerMessage>(std::move(sender), DecodeBody(json.at("type"), json));
  } catch (const std::exception& error) {
    return Fail(ErrorCode::kInvalidInput, "worker message: {}", error.what());
  }
}

std::string EncodeReply(uint64_t request, const CoordinatorReply& reply) {
  Json json{{"version", kLinkVersion}, {"request", request}};
  if (const auto* heartbeat = std::get_if<HeartbeatReply>(&reply)) {
    json.update({{"type", "heartbeat"}, {"command", CommandName(heartbeat->command)}, {"order", heartbeat->order}});
  } else if (const auto* decision = std::get_if<DecisionReply>(&reply)) {
    const LrDecision& d = decision->decision;
    json.update({{"type", "decision"}, {"validation", d.validation}, {"action", LrActionName(d.action)}, {"lr", d.lr},
                 {"improved", d.improved}, {"reason", d.reason}});
  } else if (const auto* published = std::get_if<Published>(&reply)) {
    json.update({{"type", "published"}, {"step", published->step}});
  } else if (const auto* registered = std::get_if<Registered>(&reply)) {
    json.update({{"type", "registered"}, {"job", registered->job}, {"attempt", registered->attempt}, {"token", registered->token}});
  } else {
    json.update({{"type", "refused"}, {"reason", std::get<Refused>(reply).reason}});
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<std::pair<uint64_t, CoordinatorReply>> DecodeReply(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    CheckVersion(json);
    const uint64_t request = json.at("request");
    const std::string type = json.at("type");
    if (type == "heartbeat")
      return std::pair<uint64_t, CoordinatorReply>(
          request, HeartbeatReply{CommandFromName(json.at("command")), json.at("order")});
    if (type == "decision")
      return std::pair<uint64_t, CoordinatorReply>(
          request, DecisionReply{{json.at("validation"), ActionFromName(json.at("action")), json.at("lr"), json.at("improved"),
                                  json.at("reason")}});
    if (type == "published") return std::pair<uint64_t, CoordinatorReply>(request, Published{json.at("step")});
    if (type == "refused") return std::pair<uint64_t, CoordinatorReply>(request, Refused{json.at("reason")});
    if (type == "registered")
      return std::pair<uint64_t, CoordinatorReply>(request, Registered{json.at("job"), json.at("attempt"), json.at("token")});
    return Fail(ErrorCode::kInvalidInput, "coordinator reply: type \"{}\" is not known", type);
  } catch (const std::exception& error) {
    return Fail(ErrorCode::kInvalidInput, "coordinator reply: {}", error.what());
  }
}

}  // namespace plateau
