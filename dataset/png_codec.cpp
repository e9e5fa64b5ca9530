// libpng: guarded calls, every colour type to 8-bit RGB over black.
#include "dataset/png_codec.h"

#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <png.h>

#include "dataset/jpeg_codec.h"

namespace plateau {
namespace {

constexpr size_t kIhdrEnd = 8 + 8 + 13;  // signature, chunk length and name, IHDR's fields
constexpr size_t kMaxChunkBytes = size_t{1} << 26;
constexpr int kMaxSidePixels = 1'000'000;

// What the callbacks share; libpng's longjmp ends in Guarded, whose steps hold nothing to destroy.
struct Source {
  const char* bytes;
  size_t size, at;
  std::jmp_buf escape;
  char text[160];
};

[[noreturn]] void LeaveWithError(png_structp png, png_const_charp message) {
  auto& source = *static_cast<Source*>(png_get_error_ptr(png));
  std::snprintf(source.text, sizeof source.text, "%s", message);
  std::longjmp(source.escape, 1);
}

void IgnoreWarning(png_structp, png_const_charp) {}

void ReadBytes(png_structp png, png_bytep target, size_t size) {
  auto& source = *static_cast<Source*>(png_get_io_ptr(png));
  if (source.size - source.at < size) {
    source.at = source.size;
    png_error(png, "premature end of file");
  }
  std::memcpy(target, source.bytes + source.at, size);
  source.at += size;
}

template <typename Step>
[[gnu::noinline]] bool Guarded(Source& source, const Step& step) {
  if (setjmp(source.escape) != 0) return false;
  step();
  return true;
}

// libpng's structs, freed however decoding ends.
struct Reader {
  png_structp png = nullptr;
  png_infop info = nullptr;
  ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
};

bool ReadHeader(Source& source, Reader& reader) {
  return Guarded(source, [&] {
    reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, LeaveWithError, IgnoreWarning);
    reader.info = png_create_info_struct(reader.png);
    png_set_read_fn(reader.png, &source, ReadBytes);
    png_set_user_limits(reader.png, kMaxSidePixels, kMaxSidePixels);
    png_set_chunk_malloc_max(reader.png, kMaxChunkBytes);
    png_read_info(reader.png, reader.info);
    png_set_expand(reader.png);
    png_set_scale_16(reader.png);
    png_set_gray_to_rgb(reader.png);
    png_set_add_alpha(reader.png, 0xFF, PNG_FILLER_AFTER);
    png_set_interlace_handling(reader.png);
    png_read_update_info(reader.png, reader.info);
  });
}

void ComposeOverBlack(const std::vector<uint8_t>& rgba, Image& out) {
  const size_t count = size_t{1} * out.width * out.height;
  for (size_t i = 0; i < count; ++i)
    for (size_t c = 0; c < 3; ++c) out.pixels[3 * i + c] = static_cast<uint8_t>((rgba[4 * i + c] * rgba[4 * i + 3] + 127) / 255);
}

}  // namespace

Result<ImageInfo> ProbePng(std::string_view bytes) {
  if (bytes.size() < kIhdrEnd || bytes.substr(12, 4) != "IHDR")
    return Fail(ErrorCode::kCorrupt, "damaged PNG: no IHDR chunk in its {} bytes: cut off or not an image", bytes.size());
  const auto word = [&](size_t at) {
    uint32_t value = 0;
    for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
    return value;
  };
  const uint32_t width = word(16), height = word(20);
  const int colour_type = static_cast<uint8_t>(bytes[25]);
  if (width == 0 || height == 0 || width > kMaxSidePixels || height > kMaxSidePixels)
    return Fail(ErrorCode::kInvalidInput, "PNG of {} x {} pixels: sides of 1 to {} are accepted", width, height, kMaxSidePixels);
  return ImageInfo{Encoding::kPng, static_cast<int>(width), static_cast<int>(height), (colour_type & PNG_COLOR_MASK_COLOR) ? 3 : 1};
}

Status DecodePng(std::string_view bytes, Image& out, std::vector<uint8_t>& rgba, std::vector<uint8_t*>& rows) {
  PLATEAU_ASSIGN(const ImageInfo info, ProbePng(bytes));
  if (int64_t{info.width} * info.height > kMaxImagePixels)
    return Fail(ErrorCode::kInvalidInput, "PNG of {} x {} pixels: more than {} are not accepted; scale it down", info.width,
                info.height, kMaxImagePixels);
  Source source{bytes.data(), bytes.size(), 0, {}, {}};
  Reader reader;
  const auto damaged = [&] {
    return Fail(ErrorCode::kCorrupt, "damaged PNG: {} (near byte {} of {})", source.text, source.at, source.size);
  };
  if (!ReadHeader(source, reader)) return damaged();
  const size_t row_bytes = size_t{4} * info.width;
  if (png_get_rowbytes(reader.png, reader.info) != row_bytes)
    return Fail(ErrorCode::kUnsupported, "PNG rows of {} bytes for {} pixels: a colour type this reader does not know",
                png_get_rowbytes(reader.png, reader.info), info.width);
  rgba.resize(row_bytes * info.height);
  rows.resize(static_cast<size_t>(info.height));
  for (size_t y = 0; y < rows.size(); ++y) rows[y] = rgba.data() + y * row_bytes;
  uint8_t** const row_table = rows.data();
  const bool read = Guarded(source, [&] {
    png_read_image(reader.png, row_table);
    png_read_end(reader.png, nullptr);
  });
  if (!read) return damaged();
  out.width = info.width;
  out.height = info.height;
  out.pixels.resize(size_t{3} * info.width * info.height);
  ComposeOverBlack(rgba, out);
  return {};
}

}  // namespace plateau
