// Walks the headers of a tar, or of a tar inside a tar, without unpacking it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "common/error.h"
#include "dataset/readers/pread_file.h"

namespace plateau {

// A regular file inside a tar.
struct TarEntry {
  std::string name;     // as the tar says, path included
  uint64_t offset = 0;  // of its first byte, in the outermost file
  uint64_t bytes = 0;
};

// Calls `visit` for every regular file of the tar that lies in bytes [begin, begin + bytes) of `file`, in the tar's order; ustar,
// GNU long names and pax headers are understood, folders are passed over. `what` names the tar in messages ("train.tar:
// n01440764.tar"). A tar that is cut off (an entry that passes the end, or no end marker), compressed, or damaged is kInvalidInput
// with the offset and with what was being read. Reads headers only. An error of `visit` ends the walk.
Status ScanTar(const PreadFile& file, uint64_t begin, uint64_t bytes, const std::string& what,
               const std::function<Status(const TarEntry&)>& visit);

// The part of a path behind its last slash.
std::string BaseName(const std::string& path);

}  // namespace plateau
