// One pass over the validation set by all ranks, counted exactly.
#pragma once

#include "common/messages.h"
#include "dataset/pipeline.h"
#include "worker/collective/collective.h"
#include "worker/nn/plan.h"

namespace plateau {

struct ValidateOptions {
  std::string split = "val";
  int scale = 256;  // shortest side; the centre crop of the preprocessing's size is evaluated
  int decode_threads = 1;
  std::atomic<int64_t>* progress = nullptr;  // counts images decoded
};

// Every rank evaluates its part with the plan's fixed batch, padded rows weigh nothing. The report's counts are sums over ranks and
// add up to the set's size; number, step and epoch are left to the caller. Throws Failure when a record cannot be read or the
// counts do not add up.
ValidationReport Validate(Plan& plan, const StoreReader& store, const Preprocessing& preprocessing, const ValidateOptions& options,
                          Collective& collective);

}  // namespace plateau
