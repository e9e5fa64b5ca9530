// Whether an ingest makes large images smaller: its option, its name in the manifest.
#pragma once

#include <string_view>

#include "common/error.h"

namespace plateau {

enum class ResizeMode { kNone, k256, k512Cap };

// "none", "256", "512cap"; kInvalidInput names the known ones.
Result<ResizeMode> ParseResizeMode(std::string_view text);
const char* ResizeModeName(ResizeMode mode);
// The longest that an image's shorter side may be, pixels; 0: any.
int ResizeCap(ResizeMode mode);

}  // namespace plateau
