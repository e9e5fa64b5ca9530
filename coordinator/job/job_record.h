// The stored forms of jobs, validations, events and curve points: JSON texts, versioned. Events and points are stored as REST shows
// them.
#pragma once

#include <string>
#include <string_view>

#include "coordinator/job/machine.h"

namespace plateau {

// The job without its validations, which are rows of their own.
std::string JobRecordText(const Job& job);
Result<Job> ParseJobRecord(std::string_view text);

std::string DecidedValidationText(const DecidedValidation& record);
Result<DecidedValidation> ParseDecidedValidation(std::string_view text);

std::string EventRowText(const EventRow& row);
std::string CurveText(const Curve& point);

}  // namespace plateau
