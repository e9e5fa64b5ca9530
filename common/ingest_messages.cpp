// JSON forms of the ingest workers' messages.
#include "common/ingest_messages.h"

#include <nlohmann/json.hpp>

namespace plateau {
namespace {

using Json = nlohmann::json;

std::string Text(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

struct MessageEncoder {
  Json& json;
  void operator()(const AskTask& m) { json.update({{"type", "ingest_ask"}, {"stay", m.stay}}); }
  void operator()(const RenewLease& m) {
    json.update(
        {{"type", "ingest_renew"}, {"ingest", m.dataset}, {"lease", m.lease}, {"images", m.images}, {"rejected", m.rejected}});
  }
  void operator()(const ShardBuilt& m) {
    json.update({{"type", "ingest_built"},
                 {"ingest", m.dataset},
                 {"lease", m.lease},
                 {"checksum", m.checksum},
                 {"too_many_rejected", m.too_many_rejected}});
  }
  void operator()(const BuildFailed& m) {
    json.update({{"type", "ingest_failed"}, {"ingest", m.dataset}, {"lease", m.lease}, {"message", m.message}});
  }
  void operator()(const ReturnLease& m) { json.update({{"type", "ingest_return"}, {"ingest", m.dataset}, {"lease", m.lease}}); }
};

IngestMessage DecodeBody(const std::string& type, const Json& json) {
  if (type == "ingest_ask") return AskTask{json.at("stay")};
  if (type == "ingest_renew") return RenewLease{json.at("ingest"), json.at("lease"), json.at("images"), json.at("rejected")};
  if (type == "ingest_built")
    return ShardBuilt{json.at("ingest"), json.at("lease"), json.at("checksum"), json.at("too_many_rejected")};
  if (type == "ingest_failed") return BuildFailed{json.at("ingest"), json.at("lease"), json.at("message")};
  if (type == "ingest_return") return ReturnLease{json.at("ingest"), json.at("lease")};
  throw std::runtime_error("type \"" + type + "\" is not known");
}

struct ReplyEncoder {
  Json& json;
  void operator()(const TaskGranted& r) {
    json.update({{"type", "ingest_task"},
                 {"ingest", r.dataset},
                 {"lease", r.lease},
                 {"timeout_ms", r.timeout_ms},
                 {"task", r.task},
                 {"shard", r.shard},
                 {"folder", r.folder},
                 {"order", r.order},
                 {"plan_checksum", r.plan_checksum},
                 {"reject_limit", r.reject_limit}});
  }
  void operator()(const NoTask&) { json["type"] = "ingest_none"; }
  void operator()(const KeepWaiting&) { json["type"] = "ingest_wait"; }
  void operator()(const LeaseHeld& r) { json.update({{"type", "ingest_held"}, {"lease", r.lease}}); }
  void operator()(const LeaseOver& r) { json.update({{"type", "ingest_over"}, {"lease", r.lease}, {"reason", r.reason}}); }
  void operator()(const ShardCommitted& r) { json.update({{"type", "ingest_committed"}, {"lease", r.lease}}); }
  void operator()(const IngestRefused& r) { json.update({{"type", "ingest_refused"}, {"reason", r.reason}}); }
};

IngestReply DecodeReplyBody(const std::string& type, const Json& json) {
  if (type == "ingest_task")
    return TaskGranted{json.at("ingest"), json.at("lease"), json.at("timeout_ms"),    json.at("task"),        json.at("shard"),
                       json.at("folder"), json.at("order"), json.at("plan_checksum"), json.at("reject_limit")};
  if (type == "ingest_none") return NoTask{};
  if (type == "ingest_wait") return KeepWaiting{};
  if (type == "ingest_held") return LeaseHeld{json.at("lease")};
  if (type == "ingest_over") return LeaseOver{json.at("lease"), json.at("reason")};
  if (type == "ingest_committed") return ShardCommitted{json.at("lease")};
  if (type == "ingest_refused") return IngestRefused{json.at("reason")};
  throw std::runtime_error("type \"" + type + "\" is not known");
}

void CheckVersion(const Json& json) {
  const int version = json.at("version");
  if (version != kIngestLinkVersion)
    throw std::runtime_error(
        fmt::format("version {} is not {}: worker and coordinator must be of the same release", version, kIngestLinkVersion));
}

}  // namespace

bool IsIngestMessage(std::string_view text) {
  if (text.find("\"ingest_") == std::string_view::npos) return false;
  const Json json = Json::parse(text, nullptr, false);
  return json.is_object() && json.contains("type") && json["type"].is_string() &&
         json["type"].get_ref<const std::string&>().starts_with("ingest_");
}

std::string EncodeIngestMessage(const IngestSender& sender, const IngestMessage& message) {
  Json json{{"version", kIngestLinkVersion}, {"token", sender.token},     {"worker", sender.worker},
            {"host", sender.host},           {"pid", sender.pid},         {"only", sender.dataset},
            {"slot", sender.slot},           {"attempt", sender.attempt}, {"request", sender.request}};
  std::visit(MessageEncoder{json}, message);
  return Text(json);
}

Result<std::pair<IngestSender, IngestMessage>> DecodeIngestMessage(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    CheckVersion(json);
    IngestSender sender{json.at("token"), json.at("worker"), json.at("host"),    json.at("pid"),
                        json.at("only"),  json.at("slot"),   json.at("attempt"), json.at("request")};
    return std::pair<IngestSender, IngestMessage>(std::move(sender), DecodeBody(json.at("type"), json));
  } catch (const std::exception& error) {
    return Fail(ErrorCode::kInvalidInput, "ingest worker's message: {}", error.what());
  }
}

std::string EncodeIngestReply(uint64_t request, const IngestReply& reply) {
  Json json{{"version", kIngestLinkVersion}, {"request", request}};
  std::visit(ReplyEncoder{json}, reply);
  return Text(json);
}

Result<std::pair<uint64_t, IngestReply>> DecodeIngestReply(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    // What the link answers to a message that it cannot read has the ranks' form, in any version.
    if (json.at("type") == "refused")
      return std::pair<uint64_t, IngestReply>(json.at("request").get<uint64_t>(), IngestRefused{json.at("reason")});
    CheckVersion(json);
    return std::pair<uint64_t, IngestReply>(json.at("request").get<uint64_t>(), DecodeReplyBody(json.at("type"), json));
  } catch (const std::exception& error) {
    return Fail(ErrorCode::kInvalidInput, "coordinator's reply: {}", error.what());
  }
}

}  // namespace plateau
