// What whole numbers of the verbs' flags may be: CLI11 refuses others, naming flag, value and range.
#pragma once

#include <CLI/CLI.hpp>

namespace plateau::within {

inline const CLI::Range kBatch(1, 1 << 20);  // images; a specification's training.global_batch goes as far
inline const CLI::Range kClasses(1, 1'000'000);
inline const CLI::Range kChannels(1, 4096);
inline const CLI::Range kSide(1, 65536);   // pixels
inline const CLI::Range kThreads(1, 1024);  // as resources.threads_per_worker
inline const CLI::Range kRanks(1, 65536);   // as resources.workers
inline const CLI::Range kSeconds(1, 86'400);
inline const CLI::Range kCount(1, 1'000'000'000);  // steps, images

}  // namespace plateau::within
