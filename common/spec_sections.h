// Sections of a specification that have a file of their own, for job_spec.cpp alone.
#pragma once

#include <string>
#include <vector>

#include "common/job_spec.h"
#include "common/spec_reader.h"

namespace plateau {

// lr_spec.cpp
Status ReadLr(SpecReader reader, JobSpec& spec);
nlohmann::ordered_json LrToJson(const JobSpec& spec);

// evaluate_spec.cpp
Result<JobSpec::InitFrom> ReadInitFrom(SpecReader reader);
nlohmann::ordered_json InitFromToJson(const JobSpec::InitFrom& from);
Result<Evaluation> ReadEvaluation(SpecReader reader);
nlohmann::ordered_json EvaluationToJson(const Evaluation& evaluation);
// The list depends_on of the document.
Result<std::vector<Dependency>> ReadDependencies(SpecReader& root);
nlohmann::ordered_json DependenciesToJson(const std::vector<Dependency>& dependencies);

// spec_values.cpp
// Reads "1ep", "500it" or "30m" from field `where`.`field`; leaves `out` alone when it is missing.
void ReadInterval(SpecReader& reader, const char* field, const std::string& where, Interval& out);
// `precision` of a section: "auto" and a missing field give nothing.
void ReadPrecision(SpecReader& reader, std::optional<Precision>& out);
const char* PrecisionText(const std::optional<Precision>& precision);  // "auto", "bf16"
// What a device cannot do with `precision`, found when the specification is read; empty when it can.
std::string WrongPrecision(const std::optional<Precision>& precision, DeviceKind device);
// From the current folder, without a slash at the end.
std::string Absolute(const std::string& path);

}  // namespace plateau
