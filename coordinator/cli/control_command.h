// `plateau cancel`, `pause`, `resume` and `checkpoint`.
#pragma once

#include "coordinator/cli/context.h"

namespace plateau {

void AddCancelCommand(CLI::App& app, CliContext& context);
void AddPauseCommand(CLI::App& app, CliContext& context);
void AddResumeCommand(CLI::App& app, CliContext& context);
void AddCheckpointCommand(CLI::App& app, CliContext& context);

// Cancels a job and waits, event by event, until it has ended. One that ended by itself meanwhile is as good.
Status CancelAndWait(const ApiClient& client, const std::string& id);
// Has a job write a checkpoint now and waits until it is published: the `published` event. kConflict: the job does not train, or it
// stopped before it wrote one.
Result<nlohmann::ordered_json> OrderCheckpoint(const ApiClient& client, const std::string& id);

}  // namespace plateau
