// Lets all ranks go on or leave together when one of them could not prepare something.
#pragma once

#include <string>

#include "common/error.h"
#include "worker/collective/collective.h"

namespace plateau {

// Collective. Success when every rank's `local` is; otherwise, on every rank, the error of the lowest rank that has one.
Status Agree(Collective& collective, const Status& local);

// Hands rank 0's text, or its error, to every rank.
Result<std::string> ShareText(Collective& collective, const Result<std::string>& on_rank_zero);

}  // namespace plateau
