// libjpeg-turbo behind a safe face: whole images, crops at power-of-two DCT scales, and encoding.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "dataset/decode.h"

namespace plateau {

// Images of more pixels are refused before any memory is taken for them.
constexpr int64_t kMaxImagePixels = 100'000'000;

// Width, height and components from the first frame header (SOFn), read without libjpeg.
Result<ImageInfo> ProbeJpeg(std::string_view bytes);

// One decompressor, reused image after image. One thread at a time.
// libjpeg reports errors by longjmp; every jump stays inside functions whose frames hold nothing to destroy.
class JpegDecoder {
 public:
  JpegDecoder();
  ~JpegDecoder();
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;
  // Decoder::DecodeRegion for a JPEG. `finish` reads on to the end of the file, so that damage behind the region is seen too.
  Status Decode(std::string_view bytes, const Rectangle& region, int denominator, bool finish, Image& out, Rectangle& covered);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace plateau
