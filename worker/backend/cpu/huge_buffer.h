// Page-aligned memory on huge pages: the first touch of fresh memory is the dear part, so it happens once and early.
#pragma once

#include <cstddef>

namespace plateau {

// Zeroed when made. Moves, never copies. Frees on destruction.
class HugeBuffer {
 public:
  HugeBuffer() = default;
  // Throws std::bad_alloc. The pages come with the first touch.
  explicit HugeBuffer(size_t bytes);
  HugeBuffer(HugeBuffer&& other) noexcept;
  HugeBuffer& operator=(HugeBuffer&& other) noexcept;
  ~HugeBuffer();

  void* data() const { return data_; }
  float* floats() const { return static_cast<float*>(data_); }
  size_t bytes() const { return bytes_; }
  // Writes to every page, with `threads` threads, so that no step pays for it. Keeps the content.
  void Touch(int threads);

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace plateau
