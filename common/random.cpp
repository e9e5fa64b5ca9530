// Philox4x32-10 and a table-free permutation.
#include "common/random.h"

#include <cmath>
#include <numbers>

#include "common/check.h"

namespace plateau {
namespace {

constexpr uint32_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
constexpr uint32_t kFeistelRounds = 8;

std::array<uint32_t, 2> SeedKey(uint64_t seed) { return {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}; }

}  // namespace

std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = static_cast<uint64_t>(kMultiplier0) * counter[0];
    const uint64_t product1 = static_cast<uint64_t>(kMultiplier1) * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

RandomStream::RandomStream(uint64_t seed, RandomPurpose purpose, uint64_t time, uint64_t index)
    : base_{0, static_cast<uint32_t>(purpose) | static_cast<uint32_t>(time << 8), static_cast<uint32_t>(index),
            (static_cast<uint32_t>(index >> 32) & 0xFFFF) | (static_cast<uint32_t>(time >> 24) << 16)},
      key_(SeedKey(seed)) {}

std::array<uint32_t, 4> RandomStream::Block(uint32_t block) const {
  auto counter = base_;
  counter[0] = block;
  return Philox(counter, key_);
}

uint32_t RandomStream::NextWord() {
  if (next_ % 4 == 0) words_ = Block(next_ / 4);
  return words_[next_++ % 4];
}

float RandomStream::NextUniform() { return static_cast<float>(NextWord() >> 8) * 0x1.0p-24f; }

uint32_t RandomStream::NextBelow(uint32_t bound) {
  PLATEAU_CHECK(bound >= 1, "bound {}", bound);
  return static_cast<uint32_t>((static_cast<uint64_t>(NextWord()) * bound) >> 32);
}

double RandomStream::NextNormal() {
  const double u = (static_cast<double>(NextWord()) + 0.5) * 0x1.0p-32;
  const double v = static_cast<double>(NextWord()) * 0x1.0p-32;
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

Permutation::Permutation(uint64_t seed, RandomPurpose purpose, uint64_t time, uint64_t size)
    : size_(size),
      half_bits_(1),
      key_(SeedKey(seed)),
      purpose_time_low_(static_cast<uint32_t>(purpose) | static_cast<uint32_t>(time << 8)),
      time_high_(static_cast<uint32_t>(time >> 24)) {
  PLATEAU_CHECK(size >= 1 && size < (uint64_t{1} << 62), "size {}", size);
  while ((uint64_t{1} << (2 * half_bits_)) < size) ++half_bits_;
  half_mask_ = static_cast<uint32_t>((uint64_t{1} << half_bits_) - 1);
}

uint32_t Permutation::Round(uint32_t round, uint32_t half) const {
  return Philox({half, purpose_time_low_, time_high_, round}, key_)[0] & half_mask_;
}

uint64_t Permutation::Encrypt(uint64_t value) const {
  uint32_t left = static_cast<uint32_t>(value >> half_bits_), right = static_cast<uint32_t>(value) & half_mask_;
  for (uint32_t round = 0; round < kFeistelRounds; ++round) {
    const uint32_t next = left ^ Round(round, right);
    left = right;
    right = next;
  }
  return (static_cast<uint64_t>(left) << half_bits_) | right;
}

uint64_t Permutation::Decrypt(uint64_t value) const {
  uint32_t left = static_cast<uint32_t>(value >> half_bits_), right = static_cast<uint32_t>(value) & half_mask_;
  for (uint32_t round = kFeistelRounds; round-- > 0;) {
    const uint32_t previous = right ^ Round(round, left);
    right = left;
    left = previous;
  }
  return (static_cast<uint64_t>(left) << half_bits_) | right;
}

uint64_t Permutation::operator()(uint64_t position) const {
  PLATEAU_CHECK(position < size_, "position {} size {}", position, size_);
  do {
    position = Encrypt(position);
  } while (position >= size_);
  return position;
}

uint64_t Permutation::Inverse(uint64_t image) const {
  PLATEAU_CHECK(image < size_, "image {} size {}", image, size_);
  do {
    image = Decrypt(image);
  } while (image >= size_);
  return image;
}

}  // namespace plateau
