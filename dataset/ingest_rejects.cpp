// Reject limits, the lines of rejected.jsonl, and the error of too many.
#include "dataset/ingest_rejects.h"

#include <charconv>
#include <cmath>

#include <nlohmann/json.hpp>

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

// One line of rejected.jsonl.
std::string RejectedLine(const ImageSource& source, const RejectedImage& rejected) {
  const SourceImage& image = source.images()[rejected.source_ordinal];
  Json line = Json::object();
  line["split"] = source.split();
  line["source"] = source.place();
  line["name"] = image.name;
  line["source_ordinal"] = rejected.source_ordinal;
  line["offset"] = image.offset;
  line["bytes"] = image.bytes;
  line["reason"] = rejected.reason;
  return line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

uint64_t RejectLimit::Of(uint64_t sources) const {
  return count ? *count : static_cast<uint64_t>(std::floor(share * static_cast<double>(sources) + 1e-9));
}

std::string RejectLimit::Text() const { return count ? std::to_string(*count) : fmt::format("{:g}%", share * 100); }

Result<RejectLimit> ParseRejectLimit(std::string_view text) {
  const bool percent = text.ends_with('%');
  const std::string_view digits = percent ? text.substr(0, text.size() - 1) : text;
  RejectLimit limit;
  uint64_t count = 0;
  double share = 0;
  const char* end = digits.data() + digits.size();
  const auto parsed = percent ? std::from_chars(digits.data(), end, share) : std::from_chars(digits.data(), end, count);
  if (digits.empty() || parsed.ec != std::errc() || parsed.ptr != end || !(share >= 0 && share <= 100))
    return Fail(ErrorCode::kInvalidInput, "--max-rejected: \"{}\" is neither a share such as 1% nor a number such as 25", text);
  limit.share = share / 100;
  if (!percent) limit.count = count;
  return limit;
}

bool RejectLog::Add(size_t split, const RejectedImage& image) {
  const std::lock_guard lock(mutex_);
  found_[split].emplace(image.source_ordinal, image);
  return !TooMany(split);
}

std::string RejectLog::Text() const {
  std::string text;
  for (size_t split = 0; split < found_.size(); ++split)
    for (const auto& [ordinal, image] : found_[split]) text += RejectedLine(*splits_[split], image);
  return text;
}

Status RejectLog::Check(const std::string& out) const {
  for (size_t split = 0; split < found_.size(); ++split) {
    if (!TooMany(split)) continue;
    const auto& source = *splits_[split];
    const auto& first = found_[split].begin()->second;
    const auto& image = source.images()[first.source_ordinal];
    return Fail(
        ErrorCode::kInvalidInput,
        "{}: at least {} of its {} {} images are bad, more than --max-rejected {} allows ({}); one is {} at offset {}: {}; all "
        "that "
        "were found are in {}/rejected.jsonl; nothing was published: mend the source, or run again with a higher --max-rejected "
        "(finished shards are kept)",
        source.place(), found_[split].size(), source.images().size(), source.split(), limit_.Text(),
        limit_.Of(source.images().size()), image.name, image.offset, first.reason, out);
  }
  return {};
}

}  // namespace plateau
