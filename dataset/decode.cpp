// Tells JPEG from PNG by their first bytes and hands each to its codec.
#include "dataset/decode.h"

#include <array>

#include "common/check.h"
#include "dataset/jpeg_codec.h"
#include "dataset/png_codec.h"

namespace plateau {
namespace {

constexpr std::string_view kJpegStart = "\xFF\xD8\xFF";
constexpr std::string_view kPngStart = "\x89PNG\r\n\x1A\n";

struct KnownStart {
  std::string_view start, name;
};
// Formats that turn up under image names, so that the rejection can say what the file is.
constexpr std::array kOtherFormats = {
    KnownStart{"GIF8", ": a GIF"}, KnownStart{"BM", ": a BMP"},         KnownStart{"II*", ": a TIFF"},
    KnownStart{"MM", ": a TIFF"},  KnownStart{"RIFF", ": a WebP"},      KnownStart{"<", ": HTML or XML"},
    KnownStart{"%PDF", ": a PDF"}, KnownStart{"PK\x03\x04", ": a ZIP"},
};

std::string FirstBytes(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes.substr(0, 4)) text += fmt::format("{}{:02x}", text.empty() ? "" : " ", static_cast<uint8_t>(byte));
  return text;
}

}  // namespace

Result<ImageInfo> ProbeImage(std::string_view bytes) {
  if (bytes.empty()) return Fail(ErrorCode::kInvalidInput, "empty file");
  if (bytes.starts_with(kJpegStart)) return ProbeJpeg(bytes);
  if (bytes.starts_with(kPngStart)) return ProbePng(bytes);
  std::string_view name = "";
  for (const auto& other : kOtherFormats)
    if (bytes.starts_with(other.start)) name = other.name;
  return Fail(ErrorCode::kInvalidInput, "not a JPEG or PNG (starts with {}{})", FirstBytes(bytes), name);
}

struct Decoder::State {
  JpegDecoder jpeg;
  std::vector<uint8_t> rgba;
  std::vector<uint8_t*> rows;
};

Decoder::Decoder() : state_(std::make_unique<State>()) {}
Decoder::~Decoder() = default;

Status Decoder::DecodeFull(std::string_view bytes, Image& out) {
  PLATEAU_ASSIGN(const ImageInfo info, ProbeImage(bytes));
  if (info.encoding == Encoding::kPng) return DecodePng(bytes, out, state_->rgba, state_->rows);
  Rectangle covered;
  return state_->jpeg.Decode(bytes, {0, 0, info.width, info.height}, 1, true, out, covered);
}

Result<int> Decoder::DecodeRegion(std::string_view bytes, const Rectangle& region, int denominator, Image& out,
                                  Rectangle& covered) {
  PLATEAU_CHECK(denominator == 1 || denominator == 2 || denominator == 4 || denominator == 8, "denominator {}", denominator);
  if (bytes.starts_with(kJpegStart)) {
    PLATEAU_TRY(state_->jpeg.Decode(bytes, region, denominator, false, out, covered));
    return denominator;
  }
  PLATEAU_TRY(DecodeFull(bytes, out));
  covered = {0, 0, out.width, out.height};
  return 1;
}

}  // namespace plateau
