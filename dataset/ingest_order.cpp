// Reading and writing an order's JSON.
#include "dataset/ingest_order.h"

#include <nlohmann/json.hpp>

#include "common/spec_reader.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kOrderVersion = 1;
constexpr int kMaxWorkers = 1024, kMaxThreads = 1024;
constexpr int64_t kMaxShards = 10'000;

void ReadMaxRejected(SpecReader& reader, RejectLimit& limit) {
  const auto* value = reader.Value("max_rejected");
  if (value == nullptr) return;
  const auto parsed = ParseRejectLimit(value->is_string() ? value->get<std::string>() : value->dump());
  if (parsed)
    limit = *parsed;
  else
    reader.Refuse("max_rejected", value->dump() + " is neither a share such as \"1%\" nor a number such as 25");
}

// Paths that begin elsewhere than at / would mean another folder to whoever reads the order.
Status ReadSource(SpecReader& reader, const std::string& where, SourceSpec& source) {
  const auto* section = reader.Value("source");
  if (section == nullptr) return Fail(ErrorCode::kInvalidInput, "{}: source: missing; give layout, train and val", where);
  PLATEAU_ASSIGN(source, SourceSpecFromJson(Json(*section), where + ": source"));
  for (const auto& [name, value] : section->items())
    if (name != "layout" && value.is_string() && !value.get_ref<const std::string&>().starts_with("/"))
      return Fail(ErrorCode::kInvalidInput,
                  "{}: source.{}: \"{}\" is not an absolute path; give one that begins with / and means the same on every node", where,
                  name, value.get_ref<const std::string&>());
  return {};
}

}  // namespace

Json IngestOrderToJson(const IngestOrder& order) {
  Json json = Json::object();
  json["version"] = kOrderVersion;
  json["kind"] = "ingest";
  json["name"] = StoreName(order.options);
  json["source"] = SourceSpecToJson(order.source);
  json["out"] = order.options.out;
  json["shards"] = order.options.shards;
  json["seed"] = order.options.seed;
  json["max_rejected"] = order.options.max_rejected.Text();
  json["resize"] = ResizeModeName(order.options.resize);
  json["overwrite"] = order.options.overwrite;
  json["resources"] = {{"workers", order.workers}, {"threads_per_worker", order.options.jobs}};
  return json;
}

Result<IngestOrder> IngestOrderFromJson(const nlohmann::json& json, const std::string& where) {
  IngestOrder order;
  SpecReader reader(&json, where, "");
  int version = 0;
  std::string kind;
  reader.Integer("version", kOrderVersion, kOrderVersion, version, true);
  reader.Choice("kind", {"ingest"}, kind);
  reader.Text("name", order.options.name);
  reader.Text("out", order.options.out, true);
  if (!order.options.out.empty() && order.options.out[0] != '/')
    reader.Refuse("out", "\"" + order.options.out +
                             "\" is not an absolute path; give one that begins with / and means the same on every node");
  std::optional<int64_t> shards;
  reader.Integer64("shards", 0, kMaxShards, shards);
  order.options.shards = static_cast<uint64_t>(shards.value_or(0));
  reader.Unsigned64("seed", order.options.seed);
  ReadMaxRejected(reader, order.options.max_rejected);
  std::string resize = "none";
  reader.Choice("resize", {"none", "256", "512cap"}, resize);
  if (const auto mode = ParseResizeMode(resize)) order.options.resize = *mode;
  reader.Boolean("overwrite", order.options.overwrite);
  reader.Adopt(ReadSource(reader, where, order.source));
  SpecReader resources = reader.Section("resources");
  resources.Integer("workers", 0, kMaxWorkers, order.workers);
  resources.Integer("threads_per_worker", 1, kMaxThreads, order.options.jobs);
  reader.Adopt(resources.Finish());
  PLATEAU_TRY(reader.Finish());
  order.options.quiet = true;
  return order;
}

}  // namespace plateau
