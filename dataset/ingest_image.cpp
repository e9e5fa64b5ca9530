// The decode check and the conversions of ingest.
#include "dataset/ingest_image.h"

#include <algorithm>
#include <cctype>

namespace plateau {
namespace {

bool NamedJpeg(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name.ends_with(".jpg") || name.ends_with(".jpeg");
}

}  // namespace

Result<ImagePreparer::Prepared> ImagePreparer::Prepare(const std::string& name, std::string_view bytes) {
  PLATEAU_ASSIGN(const ImageInfo info, ProbeImage(bytes));
  PLATEAU_TRY(decoder_.DecodeFull(bytes, image_));
  Prepared prepared;
  prepared.header.encoding = info.encoding;
  prepared.header.channels = info.components == 1 ? 1 : 3;
  prepared.header.width = static_cast<uint32_t>(image_.width);
  prepared.header.height = static_cast<uint32_t>(image_.height);
  prepared.bytes = bytes;
  const bool cmyk = info.encoding == Encoding::kJpeg && info.components == 4;
  const bool disguised = info.encoding == Encoding::kPng && NamedJpeg(name);
  if (!cmyk && !disguised) return prepared;
  PLATEAU_ASSIGN(encoded_, EncodeJpeg(image_, kConvertedQuality));
  prepared.header.encoding = Encoding::kJpeg;
  prepared.header.channels = 3;
  prepared.bytes = encoded_;
  prepared.converted = true;
  return prepared;
}

}  // namespace plateau
