// `plateau submit`: a specification, edited by --set, sent to the coordinator.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "coordinator/cli/context.h"

namespace plateau {

void AddSubmitCommand(CLI::App& app, CliContext& context);

// The specification of file `path` ("-" is standard input) with each "a.b=value" of `settings` applied, and with its paths made
// absolute: they mean the folder of the caller, not the coordinator's.
Result<nlohmann::ordered_json> PrepareSpec(const std::string& path, const std::vector<std::string>& settings);

}  // namespace plateau
