// Records whose bytes are pixels (Encoding::kRaw8) as RGB images.
#pragma once

#include <string_view>

#include "common/error.h"
#include "dataset/decode.h"
#include "dataset/record.h"

namespace plateau {

// One channel is repeated three times. kCorrupt when `bytes` are not height x width x channels, or there are none.
Status ExpandRaw(const RecordHeader& header, std::string_view bytes, Image& out);

}  // namespace plateau
