// The REST forms of a job: the object, the summary, its learning-rate history and its curve (coordinator/API.md has every field).
#pragma once

#include <span>
#include <string>

#include "coordinator/job/job.h"

namespace plateau {

// The job object; a summary lacks workers, attempts and spec.
std::string JobViewText(const Job& job, Moment now, bool summary);
// {"jobs": [...]}: summaries in the order given.
std::string JobListText(std::span<const std::shared_ptr<const Job>> jobs, Moment now);
std::string LrHistoryText(const Job& job);
// "top-1 error 0.2700, top-5 error 0.0880 over 50000 images" of a result.json
std::string EvaluationSummary(const std::string& result);
// {"points": [...], "validations": [...]}; `points` are stored CurveTexts.
std::string MetricsText(const Job& job, std::span<const std::string> points);
// {"events": [...], "last": SEQ}; `events` are stored EventRowTexts, `last` the newest sequence number among them or `after`.
std::string EventsText(std::span<const std::string> events, int64_t last);

}  // namespace plateau
