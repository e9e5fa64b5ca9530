// The stored forms of an ingest and of its tasks: JSON texts, versioned.
#pragma once

#include <string>
#include <string_view>

#include "coordinator/ingest/board.h"

namespace plateau {

// The ingest without its tasks, which are rows of their own.
std::string DatasetRecordText(const Dataset& dataset);
Result<Dataset> ParseDatasetRecord(std::string_view text);

std::string TaskRecordText(const BoardTask& task);
Result<BoardTask> ParseTaskRecord(std::string_view text);

}  // namespace plateau
