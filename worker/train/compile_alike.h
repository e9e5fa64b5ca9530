// Makes all ranks of a job run the same algorithms: rank 0 chooses, and the others take its table.
#pragma once

#include <functional>

#include "common/file.h"
#include "worker/collective/collective.h"
#include "worker/nn/recorded_choices.h"

namespace plateau {

// Collective; errors are the same on every rank. Rank 0 runs `compile` first, timing what is on no record: its `compile` must ask for
// every plan that any rank is going to run. Then its table goes to the others, what it timed goes into the machine's file, and the
// others run theirs, in which nothing is missing. Without `choices` (the CPU times nothing) all ranks run `compile` at once.
Status CompileAlike(FileSystem& files, RecordedChoices* choices, Collective& collective, const std::function<Status()>& compile);

}  // namespace plateau
