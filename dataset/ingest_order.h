// An ingest as it is ordered from a coordinator: source, options and workers in one value that is stored and sent.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "common/error.h"
#include "dataset/ingest_plan.h"
#include "dataset/source_spec.h"

namespace plateau {

struct IngestOrder {
  SourceSpec source;
  IngestOptions options;  // `jobs`: threads of each worker
  int workers = 1;        // launched by the coordinator; 0: only those that are started by hand
};

// {"version":1,"kind":"ingest","name","source":{...},"out","shards","seed","max_rejected","resize","overwrite",
//  "resources":{"workers","threads_per_worker"}}; every field but source and out has a default. What the plan depends on is all
//  here.
nlohmann::ordered_json IngestOrderToJson(const IngestOrder& order);
// kInvalidInput, its message beginning "`where`: field: ", for unknown fields (with the nearest known one), wrong types, values out
// of range, and paths that are not absolute.
Result<IngestOrder> IngestOrderFromJson(const nlohmann::json& json, const std::string& where);

}  // namespace plateau
