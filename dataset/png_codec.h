// libpng behind a safe face: any PNG to 8-bit RGB.
#pragma once

#include <string_view>
#include <vector>

#include "dataset/decode.h"

namespace plateau {

// Width, height and components from IHDR, the first chunk.
Result<ImageInfo> ProbePng(std::string_view bytes);

// Palette and gray expanded, 16 bits rounded to 8, alpha composed over black. `rgba` and `rows` are scratch that keeps its memory.
Status DecodePng(std::string_view bytes, Image& out, std::vector<uint8_t>& rgba, std::vector<uint8_t*>& rows);

}  // namespace plateau
