// JPEG and PNG bytes to RGB pixels: fast partial decoding for training, exact decoding for evaluation and ingest.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "dataset/record.h"

namespace plateau {

// Interleaved RGB, 8 bits, row-major. Reuse it: memory is kept.
struct Image {
  int width = 0, height = 0;    // pixels
  std::vector<uint8_t> pixels;  // [height, width, 3]
};

// What the bytes are, from their first bytes and header, without decoding pixels.
struct ImageInfo {
  Encoding encoding = Encoding::kJpeg;
  int width = 0, height = 0;
  int components = 3;  // 1 gray, 3 RGB/YCbCr, 4 CMYK/YCCK
};
// kInvalidInput: "not a JPEG or PNG (starts with 47 49 46 38: a GIF)", "empty file", ...
Result<ImageInfo> ProbeImage(std::string_view bytes);

// Rectangle in pixels of the (unscaled) image.
struct Rectangle {
  int left = 0, top = 0, width = 0, height = 0;
};

// One per thread: holds libjpeg's state and scratch memory.
class Decoder {
 public:
  Decoder();
  ~Decoder();
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  // The whole image as RGB; gray is expanded, CMYK and YCCK (Adobe-inverted too) converted, PNG's alpha composed over black.
  // Truncated data and every libjpeg warning that means damaged pixels are errors: ingest rejects by them. Stray bytes between
  // markers and odd version numbers are let pass. More than 100 million pixels are refused (kInvalidInput).
  Status DecodeFull(std::string_view bytes, Image& out);
  // At least the pixels of `region` (source pixels), at 1/denominator of the size (1, 2, 4, 8: powers of two of the DCT scale).
  // On return `covered` is the source rectangle that `out` shows; pixels of the region are those that a decoding of the whole
  // image at this denominator has. Returns the denominator used: a PNG comes whole and unscaled (1). Damage behind the region
  // is not looked for.
  Result<int> DecodeRegion(std::string_view bytes, const Rectangle& region, int denominator, Image& out, Rectangle& covered);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// RGB -> JPEG of this quality (4:2:0 subsampling off), for converted inputs and `resize`. components 1: a gray JPEG of an image
// whose three channels are equal. Deterministic.
Result<std::string> EncodeJpeg(const Image& image, int quality, int components = 3);

}  // namespace plateau
