// The decode check, the conversions and the resizing of ingest.
#include "dataset/ingest_image.h"

#include <algorithm>
#include <cctype>

#include "dataset/raw_pixels.h"

namespace plateau {
namespace {

bool NamedJpeg(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name.ends_with(".jpg") || name.ends_with(".jpeg");
}

}  // namespace

Result<ImagePreparer::Prepared> ImagePreparer::Encoded(const Image& image, int components, int quality) {
  PLATEAU_ASSIGN(encoded_, EncodeJpeg(image, quality, components));
  Prepared prepared;
  prepared.header.encoding = Encoding::kJpeg;
  prepared.header.channels = static_cast<uint8_t>(components);
  prepared.header.width = static_cast<uint32_t>(image.width);
  prepared.header.height = static_cast<uint32_t>(image.height);
  prepared.bytes = encoded_;
  prepared.converted = true;
  return prepared;
}

Result<ImagePreparer::Prepared> ImagePreparer::Prepare(const std::string& name, std::string_view bytes) {
  PLATEAU_ASSIGN(const ImageInfo info, ProbeImage(bytes));
  PLATEAU_TRY(decoder_.DecodeFull(bytes, image_));
  const int components = info.components == 1 ? 1 : 3;
  if (largest_side_ > 0 && std::min(image_.width, image_.height) > largest_side_) {
    const ImageSize size = ScaledSize(image_.width, image_.height, largest_side_);
    resizer_.ToImage(image_, size.width, size.height, smaller_);
    return Encoded(smaller_, components, kResizedQuality);
  }
  const bool cmyk = info.encoding == Encoding::kJpeg && info.components == 4;
  const bool disguised = info.encoding == Encoding::kPng && NamedJpeg(name);
  if (cmyk || disguised) return Encoded(image_, 3, kConvertedQuality);
  Prepared prepared;
  prepared.header.encoding = info.encoding;
  prepared.header.channels = static_cast<uint8_t>(components);
  prepared.header.width = static_cast<uint32_t>(image_.width);
  prepared.header.height = static_cast<uint32_t>(image_.height);
  prepared.bytes = bytes;
  return prepared;
}

Result<ImagePreparer::Prepared> ImagePreparer::PrepareRaw(const RawShape& shape, std::string_view bytes) {
  Prepared prepared;
  prepared.header.encoding = Encoding::kRaw8;
  prepared.header.channels = static_cast<uint8_t>(shape.channels);
  prepared.header.width = static_cast<uint32_t>(shape.width);
  prepared.header.height = static_cast<uint32_t>(shape.height);
  PLATEAU_TRY(ExpandRaw(prepared.header, bytes, image_));
  prepared.bytes = bytes;
  return prepared;
}

}  // namespace plateau
