// Anonymous mappings with MADV_HUGEPAGE.
#include "worker/backend/cpu/huge_buffer.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>
#include <utility>

namespace plateau {
namespace {
constexpr size_t kHugePageBytes = size_t{2} << 20;
constexpr size_t kPageBytes = 4096;
}  // namespace

HugeBuffer::HugeBuffer(size_t bytes) {
  if (bytes == 0) return;
  const size_t unit = bytes >= kHugePageBytes ? kHugePageBytes : kPageBytes;
  bytes_ = (bytes + unit - 1) / unit * unit;
  void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  data_ = memory;
  madvise(data_, bytes_, MADV_HUGEPAGE);  // a hint: small pages work too
}

HugeBuffer::HugeBuffer(HugeBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

HugeBuffer& HugeBuffer::operator=(HugeBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

HugeBuffer::~HugeBuffer() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

void HugeBuffer::Touch(int threads) {
  auto* bytes = static_cast<volatile uint8_t*>(data_);
  const auto pages = static_cast<int64_t>(bytes_ / kPageBytes);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t page = 0; page < pages; ++page)
    bytes[page * static_cast<int64_t>(kPageBytes)] = bytes[page * static_cast<int64_t>(kPageBytes)];
}

}  // namespace plateau
