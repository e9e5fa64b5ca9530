// Seals JSON texts with an XXH3-64 over themselves.
#include "dataset/sealed_json.h"

#include <nlohmann/json.hpp>

#include "common/checksum.h"

namespace plateau {
namespace {

constexpr const char* kField = "file_checksum";
constexpr std::string_view kZeros = "0000000000000000";
constexpr std::string_view kFront = "{\n  \"file_checksum\": \"";

}  // namespace

std::string SealJson(const nlohmann::ordered_json& document) {
  nlohmann::ordered_json sealed = nlohmann::ordered_json::object();
  sealed[kField] = kZeros;
  for (const auto& [key, value] : document.items())
    if (key != kField) sealed[key] = value;
  std::string text = sealed.dump(2) + "\n";
  return text.replace(kFront.size(), kZeros.size(), ChecksumText(Checksum(text)));
}

Result<nlohmann::ordered_json> OpenSealedJson(std::string_view text, const std::string& path) {
  if (text.substr(0, kFront.size()) != kFront || text.size() < kFront.size() + kZeros.size())
    return Fail(ErrorCode::kCorrupt, "{}: does not begin with a `{}` field; the file was changed or cut", path, kField);
  std::string zeroed(text);
  const std::string stored = zeroed.substr(kFront.size(), kZeros.size());
  zeroed.replace(kFront.size(), kZeros.size(), kZeros);
  if (const auto actual = ChecksumText(Checksum(zeroed)); actual != stored)
    return Fail(ErrorCode::kCorrupt, "{}: checksum is {}, the file says {}; it was changed after it was written", path, actual,
                stored);
  auto document = nlohmann::ordered_json::parse(text, nullptr, false);
  if (document.is_discarded() || !document.is_object()) return Fail(ErrorCode::kCorrupt, "{}: is no JSON object", path);
  document.erase(kField);
  return document;
}

}  // namespace plateau
