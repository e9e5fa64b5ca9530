// Sizes of memory as people write them: "80", "80GiB", "80 GB".
#pragma once

#include <cstdint>
#include <string>

#include "common/error.h"

namespace plateau {

// Units of 1024 (KiB, MiB, GiB, TiB) and of 1000 (kB, MB, GB, TB), in any case, after an optional space; a number without one counts
// `unit`, one of them. At least a byte, at most 2^60. kInvalidInput: `field` stands at the front of the message.
Result<uint64_t> ParseByteSize(const std::string& text, const std::string& unit, const std::string& field);

}  // namespace plateau
