// libjpeg-turbo: guarded calls, warnings of damage made errors, partial decoding, CMYK to RGB.
#include "dataset/jpeg_codec.h"

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <jpeglib.h>  // after <cstdio>, which it needs
#include <jerror.h>

#include "common/check.h"

namespace plateau {
namespace {

// More scans than any real progressive file has; a small file that asks for thousands would hold a thread for minutes.
constexpr int kMaxScans = 200;
constexpr int kLastRestartMarker = 0xD7, kFirstRestartMarker = 0xD0;

// libjpeg's error manager and the way out of it; `manager` stands first, so that libjpeg's pointer to it is a pointer to this.
struct ErrorTrap {
  jpeg_error_mgr manager;
  std::jmp_buf escape;
  char text[JMSG_LENGTH_MAX];
};

ErrorTrap& TrapOf(j_common_ptr codec) { return *reinterpret_cast<ErrorTrap*>(codec->err); }

[[noreturn]] void LeaveWithError(j_common_ptr codec) {
  ErrorTrap& trap = TrapOf(codec);
  trap.manager.format_message(codec, trap.text);
  std::longjmp(trap.escape, 1);
}

// Odd headers and stray bytes between markers leave the pixels whole (files like that are viewed everywhere); all else is damage.
bool IsHarmless(const jpeg_error_mgr& manager) {
  switch (manager.msg_code) {
    case JWRN_ADOBE_XFORM:
    case JWRN_JFIF_MAJOR:
    case JWRN_NOT_SEQUENTIAL: return true;
    case JWRN_EXTRANEOUS_DATA: return manager.msg_parm.i[1] < kFirstRestartMarker || manager.msg_parm.i[1] > kLastRestartMarker;
    default: return false;
  }
}

void JudgeMessage(j_common_ptr codec, int level) {
  if (level < 0 && !IsHarmless(TrapOf(codec).manager)) LeaveWithError(codec);
}

void StopEndlessScans(j_common_ptr codec) {
  if (codec->is_decompressor && reinterpret_cast<j_decompress_ptr>(codec)->input_scan_number > kMaxScans) {
    ErrorTrap& trap = TrapOf(codec);
    std::snprintf(trap.text, sizeof trap.text, "more than %d scans", kMaxScans);
    std::longjmp(trap.escape, 1);
  }
}

jpeg_error_mgr* ArmTrap(ErrorTrap& trap) {
  jpeg_error_mgr* manager = jpeg_std_error(&trap.manager);
  manager->error_exit = LeaveWithError;
  manager->emit_message = JudgeMessage;
  manager->output_message = [](j_common_ptr) {};
  return manager;
}

// Runs `step`, whose frame must hold nothing to destroy; false when libjpeg gave up in it.
template <typename Step>
[[gnu::noinline]] bool Guarded(ErrorTrap& trap, const Step& step) {
  if (setjmp(trap.escape) != 0) return false;
  step();
  return true;
}

uint8_t Multiply255(int a, int b) { return static_cast<uint8_t>((a * b + 127) / 255); }

// Ink to light, in place from a wider row: R = (255-C)(255-K)/255. Adobe writes 255-C for C.
void CmykRowToRgb(const uint8_t* cmyk, int width, bool adobe_inverted, uint8_t* rgb) {
  const int flip = adobe_inverted ? 0 : 255;
  for (int x = 0; x < width; ++x, cmyk += 4, rgb += 3)
    for (int c = 0; c < 3; ++c) rgb[c] = Multiply255(cmyk[c] ^ flip, cmyk[3] ^ flip);
}

// Samplings whose partial decoding is tested to equal full decoding; others are decoded whole.
bool CanCrop(const jpeg_decompress_struct& codec) {
  const auto* part = codec.comp_info;
  if (part[0].h_samp_factor > 2 || part[0].v_samp_factor > 2) return false;
  for (int i = 1; i < codec.num_components; ++i)
    if (part[i].h_samp_factor != 1 || part[i].v_samp_factor != 1) return false;
  return codec.num_components == 1 || codec.num_components == 3;
}

// Output columns [left, right) and rows [top, bottom) of the scaled image.
struct Window {
  int left, top, right, bottom;
};

}  // namespace

struct JpegDecoder::State {
  jpeg_decompress_struct codec{};
  jpeg_progress_mgr progress{};
  ErrorTrap trap;
  std::vector<uint8_t> cmyk_row;

  bool ReadHeader(std::string_view bytes, int denominator);
  bool StartAndCrop(Window& window, bool crop);
  bool ReadRows(const Window& window, bool crop, bool finish, Image& out);
  tl::unexpected<Error> Damaged(std::string_view bytes);
};

JpegDecoder::JpegDecoder() : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.codec.err = ArmTrap(s.trap);
  s.progress.progress_monitor = StopEndlessScans;
  const bool created = Guarded(s.trap, [&s] { jpeg_create_decompress(&s.codec); });
  PLATEAU_CHECK(created, "libjpeg: {}", s.trap.text);
  s.codec.progress = &s.progress;
}

JpegDecoder::~JpegDecoder() { jpeg_destroy_decompress(&state_->codec); }

bool JpegDecoder::State::ReadHeader(std::string_view bytes, int denominator) {
  return Guarded(trap, [&] {
    jpeg_mem_src(&codec, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
    jpeg_read_header(&codec, TRUE);
    const bool ink = codec.jpeg_color_space == JCS_CMYK || codec.jpeg_color_space == JCS_YCCK;
    codec.out_color_space = ink ? JCS_CMYK : JCS_RGB;
    codec.dct_method = JDCT_ISLOW;
    codec.scale_num = 1;
    codec.scale_denom = static_cast<unsigned>(denominator);
    jpeg_calc_output_dimensions(&codec);
  });
}

// Widens `window` to what libjpeg will deliver: its left edge moves to a block's edge. One more column on each side keeps the
// interpolation of subsampled colour at the window's edges as in the whole image.
bool JpegDecoder::State::StartAndCrop(Window& window, bool crop) {
  const int full_width = static_cast<int>(codec.output_width);
  JDIMENSION left = static_cast<JDIMENSION>(std::max(window.left - 1, 0));
  JDIMENSION width = static_cast<JDIMENSION>(std::min(window.right + 1, full_width)) - left;
  const bool started = Guarded(trap, [&] {
    jpeg_start_decompress(&codec);
    if (crop) jpeg_crop_scanline(&codec, &left, &width);
  });
  if (!started) return false;
  window.left = crop ? static_cast<int>(left) : 0;
  window.right = crop ? static_cast<int>(left + width) : full_width;
  if (!crop) window.top = 0, window.bottom = static_cast<int>(codec.output_height);
  return true;
}

bool JpegDecoder::State::ReadRows(const Window& window, bool crop, bool finish, Image& out) {
  const int width = out.width;
  const bool ink = codec.out_color_space == JCS_CMYK;
  if (ink) cmyk_row.resize(size_t{4} * width);
  uint8_t* const pixels = out.pixels.data();
  uint8_t* const ink_row = cmyk_row.data();
  return Guarded(trap, [&] {
    if (crop && window.top > 0) jpeg_skip_scanlines(&codec, static_cast<JDIMENSION>(window.top));
    for (int row = 0; row < out.height; ++row) {
      uint8_t* target = pixels + size_t{3} * width * row;
      JSAMPROW line = ink ? ink_row : target;
      jpeg_read_scanlines(&codec, &line, 1);
      if (ink) CmykRowToRgb(ink_row, width, codec.saw_Adobe_marker, target);
    }
    if (finish && codec.output_scanline == codec.output_height) {
      jpeg_finish_decompress(&codec);
    } else {
      jpeg_abort_decompress(&codec);
    }
  });
}

tl::unexpected<Error> JpegDecoder::State::Damaged(std::string_view bytes) {
  const size_t left = codec.src == nullptr ? 0 : codec.src->bytes_in_buffer;
  jpeg_abort_decompress(&codec);
  return Fail(ErrorCode::kCorrupt, "damaged JPEG: {} (near byte {} of {})", trap.text,
              left <= bytes.size() ? bytes.size() - left : 0, bytes.size());
}

Status JpegDecoder::Decode(std::string_view bytes, const Rectangle& region, int denominator, bool finish, Image& out,
                           Rectangle& covered) {
  State& s = *state_;
  if (!s.ReadHeader(bytes, denominator)) return s.Damaged(bytes);
  const int source_width = static_cast<int>(s.codec.image_width), source_height = static_cast<int>(s.codec.image_height);
  if (int64_t{source_width} * source_height > kMaxImagePixels) {
    jpeg_abort_decompress(&s.codec);
    return Fail(ErrorCode::kInvalidInput, "JPEG of {} x {} pixels: more than {} are not accepted; scale it down", source_width,
                source_height, kMaxImagePixels);
  }
  Window window{std::max(region.left, 0) / denominator, std::max(region.top, 0) / denominator,
                (std::min(region.left + region.width, source_width) + denominator - 1) / denominator,
                (std::min(region.top + region.height, source_height) + denominator - 1) / denominator};
  if (window.left >= window.right || window.top >= window.bottom) {
    jpeg_abort_decompress(&s.codec);
    return Fail(ErrorCode::kInternal, "region {}+{} x {}+{} lies outside the image of {} x {} pixels", region.left, region.width,
                region.top, region.height, source_width, source_height);
  }
  const bool crop =
      CanCrop(s.codec) && (window.left > 0 || window.top > 0 || window.right < static_cast<int>(s.codec.output_width) ||
                           window.bottom < static_cast<int>(s.codec.output_height));
  if (!s.StartAndCrop(window, crop)) return s.Damaged(bytes);
  out.width = window.right - window.left;
  out.height = window.bottom - window.top;
  out.pixels.resize(size_t{3} * out.width * out.height);
  if (!s.ReadRows(window, crop, finish, out)) return s.Damaged(bytes);
  covered = {window.left * denominator, window.top * denominator, 0, 0};
  covered.width = std::min(window.right * denominator, source_width) - covered.left;
  covered.height = std::min(window.bottom * denominator, source_height) - covered.top;
  return {};
}

Result<ImageInfo> ProbeJpeg(std::string_view bytes) {
  const auto byte = [&](size_t at) { return static_cast<int>(static_cast<uint8_t>(bytes[at])); };
  size_t at = 2;
  while (at + 4 <= bytes.size()) {
    if (byte(at) != 0xFF) {  // stray bytes between segments
      ++at;
      continue;
    }
    const int marker = byte(at + 1);
    if (marker == 0xFF) {
      ++at;
      continue;
    }
    if (marker == 0x00 || marker == 0x01 || (marker >= kFirstRestartMarker && marker <= 0xD8)) {
      at += 2;
      continue;
    }
    if (marker == 0xD9 || marker == 0xDA) break;
    const bool frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
    if (frame) {
      if (at + 10 > bytes.size()) break;
      ImageInfo info{Encoding::kJpeg, byte(at + 7) * 256 + byte(at + 8), byte(at + 5) * 256 + byte(at + 6), byte(at + 9)};
      if (info.width == 0 || info.height == 0)
        return Fail(ErrorCode::kCorrupt, "damaged JPEG: a frame of {} x {} pixels", info.width, info.height);
      return info;
    }
    at += 2 + static_cast<size_t>(byte(at + 2) * 256 + byte(at + 3));
  }
  return Fail(ErrorCode::kCorrupt, "damaged JPEG: no frame header (SOF) in its {} bytes: cut off or not an image", bytes.size());
}

namespace {

// libjpeg's compressor with its output buffer, freed however encoding ends.
struct Compressor {
  jpeg_compress_struct codec{};
  ErrorTrap trap;
  unsigned char* buffer = nullptr;
  unsigned long bytes = 0;
  ~Compressor() {
    jpeg_destroy_compress(&codec);
    std::free(buffer);
  }
};

}  // namespace

Result<std::string> EncodeJpeg(const Image& image, int quality, int components) {
  PLATEAU_CHECK(image.pixels.size() >= size_t{3} * image.width * image.height, "{} bytes", image.pixels.size());
  PLATEAU_CHECK(components == 1 || components == 3, "{} components", components);
  Compressor out;
  out.codec.err = ArmTrap(out.trap);
  const uint8_t* const pixels = image.pixels.data();
  const bool encoded = Guarded(out.trap, [&] {
    jpeg_create_compress(&out.codec);
    jpeg_mem_dest(&out.codec, &out.buffer, &out.bytes);
    out.codec.image_width = static_cast<JDIMENSION>(image.width);
    out.codec.image_height = static_cast<JDIMENSION>(image.height);
    out.codec.input_components = 3;
    out.codec.in_color_space = JCS_RGB;
    jpeg_set_defaults(&out.codec);
    if (components == 1) jpeg_set_colorspace(&out.codec, JCS_GRAYSCALE);
    jpeg_set_quality(&out.codec, quality, TRUE);
    out.codec.comp_info[0].h_samp_factor = out.codec.comp_info[0].v_samp_factor = 1;
    out.codec.dct_method = JDCT_ISLOW;
    out.codec.optimize_coding = TRUE;
    jpeg_start_compress(&out.codec, TRUE);
    while (out.codec.next_scanline < out.codec.image_height) {
      JSAMPROW line = const_cast<JSAMPROW>(pixels + size_t{3} * image.width * out.codec.next_scanline);
      jpeg_write_scanlines(&out.codec, &line, 1);
    }
    jpeg_finish_compress(&out.codec);
  });
  if (!encoded)
    return Fail(ErrorCode::kInvalidInput, "cannot encode {} x {} pixels as JPEG: {}", image.width, image.height, out.trap.text);
  return std::string(reinterpret_cast<const char*>(out.buffer), out.bytes);
}

}  // namespace plateau
