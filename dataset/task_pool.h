// A few threads over numbered tasks.
#pragma once

#include <cstdint>
#include <functional>

#include "common/error.h"

namespace plateau {

// Runs task(0) .. task(count - 1), each once, on min(jobs, count) threads, numbers taken in order. Blocks until all are done. After
// an error no new task is begun; the error of the lowest number that failed is returned.
Status RunTasks(uint64_t count, int jobs, const std::function<Status(uint64_t)>& task);

}  // namespace plateau
