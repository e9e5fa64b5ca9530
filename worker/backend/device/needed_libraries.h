// The libraries that a shared object asks the loader for, read from its file without loading it.
#pragma once

#include <string>
#include <vector>

#include "common/error.h"

namespace plateau {

// DT_NEEDED of a 64-bit ELF file, in its order ("libcudnn.so.9"). kIo when it cannot be read, kCorrupt when it is no such file.
Result<std::vector<std::string>> NeededLibraries(const std::string& path);

}  // namespace plateau
