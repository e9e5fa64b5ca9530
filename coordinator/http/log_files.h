// The logs route: a piece of one attempt's log file, and the list of them.
#pragma once

#include <string>

#include "common/file.h"
#include "coordinator/http/api_message.h"
#include "coordinator/job/service.h"

namespace plateau {

// text/plain from `offset` on, at most kMaxLogBytesPerAnswer, with Plateau-Next-Offset and Plateau-Attempt. An offset beyond the
// end gives an empty text and the end. Attempt 0 means that there is none yet. 404 names the file; names that are no plain file
// name are refused.
ApiResponse ReadLog(const Service& service, const Job& job, int attempt, const std::string& file, int64_t offset,
                    const ApiRequest& request);
// {"attempts":[{"attempt","files":[{"name","bytes"}]}]}
ApiResponse ListLogs(FileSystem& files, const Service& service, const Job& job, const ApiRequest& request);

}  // namespace plateau
