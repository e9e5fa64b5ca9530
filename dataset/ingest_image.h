// What becomes of one source image: stored as it is, converted, made smaller, or rejected with a reason.
#pragma once

#include <string>
#include <string_view>

#include "common/error.h"
#include "dataset/decode.h"
#include "dataset/record.h"
#include "dataset/resize.h"
#include "dataset/resize_mode.h"
#include "dataset/readers/source.h"

namespace plateau {

inline constexpr int kConvertedQuality = 95;  // JPEG quality of converted images, 4:4:4
inline constexpr int kResizedQuality = 90;    // of images made smaller, 4:4:4

// Checks and converts images one after another. One thread at a time.
class ImagePreparer {
 public:
  explicit ImagePreparer(ResizeMode resize = ResizeMode::kNone) : largest_side_(ResizeCap(resize)) {}

  struct Prepared {
    RecordHeader header;     // encoding, channels, width, height; the rest is the caller's
    std::string_view bytes;  // what to store; borrowed from the input or from this object, until the next call
    bool converted = false;  // the bytes are not the input's
  };
  // Decodes every pixel. JPEG in gray or colour and PNG are stored as they are; CMYK and YCCK JPEGs, and PNGs whose name ends in
  // .jpg or .jpeg, become RGB JPEGs. With a resize mode, an image whose shortest side is longer than its cap becomes a JPEG with
  // that side (Pillow's antialiased bilinear filter; gray stays gray). An error is the reason to reject: empty, not an image,
  // truncated, damaged.
  Result<Prepared> Prepare(const std::string& name, std::string_view bytes);
  // Raw pixels are stored as they are.
  Result<Prepared> PrepareRaw(const RawShape& shape, std::string_view bytes);
  // The pixels of the last prepared image, before it was made smaller.
  const Image& image() const { return image_; }

 private:
  Result<Prepared> Encoded(const Image& image, int components, int quality);

  int largest_side_;  // of the shorter side, pixels; 0: any
  Decoder decoder_;
  Resizer resizer_;
  Image image_, smaller_;
  std::string encoded_;
};

}  // namespace plateau
