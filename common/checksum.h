// XXH3 checksums of memory and of streams.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace plateau {

// XXH3-64 with seed 0.
uint64_t Checksum(std::string_view bytes);
// Sixteen lower-case hexadecimal digits: the form checksums take in JSON.
std::string ChecksumText(uint64_t checksum);

// XXH3-64 of bytes given piece by piece; equal to Checksum() of their concatenation. One thread at a time.
class ChecksumStream {
 public:
  ChecksumStream();
  ~ChecksumStream();
  void Add(const void* data, size_t bytes);
  uint64_t Value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace plateau
