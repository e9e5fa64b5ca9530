// What becomes of one source image: stored as it is, converted, or rejected with a reason.
#pragma once

#include <string>
#include <string_view>

#include "common/error.h"
#include "dataset/decode.h"
#include "dataset/record.h"

namespace plateau {

inline constexpr int kConvertedQuality = 95;  // JPEG quality of converted images, 4:4:4

// Checks and converts images one after another. One thread at a time.
class ImagePreparer {
 public:
  struct Prepared {
    RecordHeader header;     // encoding, channels, width, height; the rest is the caller's
    std::string_view bytes;  // what to store; borrowed from the input or from this object, until the next call
    bool converted = false;
  };
  // Decodes every pixel. JPEG in gray or colour and PNG are stored as they are; CMYK and YCCK JPEGs, and PNGs whose name ends in
  // .jpg or .jpeg, become RGB JPEGs. An error is the reason to reject: empty, not an image, truncated, damaged.
  Result<Prepared> Prepare(const std::string& name, std::string_view bytes);
  // The pixels of the last prepared image.
  const Image& image() const { return image_; }

 private:
  Decoder decoder_;
  Image image_;
  std::string encoded_;
};

}  // namespace plateau
