// What the dataset commands print: text for people, JSON for programs.
#pragma once

#include <string>

#include "dataset/ingest.h"
#include "dataset/synthesize.h"
#include "dataset/verify.h"

namespace plateau {

// Each ends with a newline; the JSON is one object on one line.
std::string IngestText(const IngestReport& report, const std::string& store);
std::string IngestJson(const IngestReport& report, const std::string& store);
std::string InfoText(const Manifest& manifest, const std::string& store);
std::string InfoJson(const Manifest& manifest, const std::string& store);
std::string VerifyText(const VerifyReport& report, const std::string& store);
std::string VerifyJson(const VerifyReport& report, const std::string& store);
std::string SynthesizeText(const SynthesizeOptions& options, const std::string& out, const std::string& format);
std::string SynthesizeJson(const SynthesizeOptions& options, const std::string& out, const std::string& format);

}  // namespace plateau
