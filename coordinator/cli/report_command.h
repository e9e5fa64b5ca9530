// `plateau report`: a pipeline's tables beside the paper's.
#pragma once

#include "coordinator/cli/context.h"
#include "coordinator/report/report.h"

namespace plateau {

void AddReportCommand(CLI::App& app, CliContext& context);

// Asks the coordinator for a pipeline's jobs, curves and results, and reads the posteriors that they left (which this machine must see).
// What is missing is told in the report, not an error.
Result<ReportInput> GatherReport(const ApiClient& client, const std::string& pipeline);

}  // namespace plateau
