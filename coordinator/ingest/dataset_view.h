// The REST forms of an ingest: the object and the list (coordinator/API.md has every field).
#pragma once

#include <memory>
#include <span>
#include <string>

#include "coordinator/ingest/board.h"

namespace plateau {

// A summary lacks splits, leases, workers and order.
std::string DatasetViewText(const Dataset& dataset, Moment now, bool summary);
// {"datasets": [...]}: summaries in the order given.
std::string DatasetListText(std::span<const std::shared_ptr<const Dataset>> datasets, Moment now);

}  // namespace plateau
