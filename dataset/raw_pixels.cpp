// Spreads raw pixels over three channels.
#include "dataset/raw_pixels.h"

namespace plateau {

Status ExpandRaw(const RecordHeader& header, std::string_view bytes, Image& out) {
  const size_t count = size_t{header.width} * header.height, channels = header.channels;
  if (count == 0 || bytes.size() != count * channels || (channels != 1 && channels != 3))
    return Fail(ErrorCode::kCorrupt, "raw image of {} x {} x {} has {} bytes; ingest the data set again", header.width,
                header.height, channels, bytes.size());
  out.width = static_cast<int>(header.width);
  out.height = static_cast<int>(header.height);
  out.pixels.resize(3 * count);
  for (size_t i = 0; i < count; ++i)
    for (size_t c = 0; c < 3; ++c) out.pixels[3 * i + c] = static_cast<uint8_t>(bytes[i * channels + (channels == 3 ? c : 0)]);
  return {};
}

}  // namespace plateau
