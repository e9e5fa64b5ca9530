// Names and sizes of the resize modes.
#include "dataset/resize_mode.h"

namespace plateau {

Result<ResizeMode> ParseResizeMode(std::string_view text) {
  for (const ResizeMode mode : {ResizeMode::kNone, ResizeMode::k256, ResizeMode::k512Cap})
    if (text == ResizeModeName(mode)) return mode;
  return Fail(ErrorCode::kInvalidInput, "resize: \"{}\" is not known; there are none, 256 and 512cap", text);
}

const char* ResizeModeName(ResizeMode mode) {
  return mode == ResizeMode::k256 ? "256" : mode == ResizeMode::k512Cap ? "512cap" : "none";
}

int ResizeCap(ResizeMode mode) { return mode == ResizeMode::k256 ? 256 : mode == ResizeMode::k512Cap ? 512 : 0; }

}  // namespace plateau
