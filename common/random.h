// Counter-based randomness: every draw is a pure function of its key and counter, so nothing random is ever saved.
#pragma once

#include <array>
#include <cstdint>

namespace plateau {

// What a draw is for; part of every counter, so that two uses never share numbers. Values are on-disk format: never renumber.
enum class RandomPurpose : uint32_t {
  kShuffle = 1,      // order of records in an epoch
  kStore = 2,        // order of records in a store
  kScale = 3,        // training scale S of an image
  kCrop = 4,
  kFlip = 5,
  kColour = 6,
  kDropout = 7,      // + layer index in the counter
  kInit = 8,         // + parameter index in the counter
  kSynthetic = 9,    // generated data sets
};

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011): four words a counter.
std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// The numbers drawn for one (seed, purpose, time, index): `time` is an epoch or a step, `index` a sample's source ordinal or a
// parameter's number; `draw` counts on from 0. Reproducible on every machine and thread.
// Key = seed's two halves; counter = {draw block, purpose | low 24 bits of time << 8, low half of index,
// high 16 bits of index | (bits 24..39 of time) << 16}.
class RandomStream {
 public:
  RandomStream(uint64_t seed, RandomPurpose purpose, uint64_t time, uint64_t index);
  uint32_t NextWord();
  // Uniform in [0, 1), 24 bits.
  float NextUniform();
  // Uniform integer in [0, bound), without modulo bias worth naming (64-bit multiply-shift). bound >= 1.
  uint32_t NextBelow(uint32_t bound);
  // Standard normal by Box-Muller; each call takes two words.
  double NextNormal();
  // Words of counter block `block` directly (words 4*block .. 4*block+3 of the stream), for vector loops.
  std::array<uint32_t, 4> Block(uint32_t block) const;

 private:
  std::array<uint32_t, 4> base_;
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> words_{};
  uint32_t next_ = 0;
};

// A pseudo-random permutation of [0, size) without a table: a balanced Feistel network of eight Philox rounds over the next even
// power of two, walked until inside (Black & Rogaway, "Ciphers with arbitrary finite domains", 2002). O(1) each way.
class Permutation {
 public:
  Permutation(uint64_t seed, RandomPurpose purpose, uint64_t time, uint64_t size);
  uint64_t size() const { return size_; }
  uint64_t operator()(uint64_t position) const;  // position -> image, both in [0, size)
  uint64_t Inverse(uint64_t image) const;

 private:
  uint64_t Encrypt(uint64_t value) const;
  uint64_t Decrypt(uint64_t value) const;
  uint32_t Round(uint32_t round, uint32_t half) const;

  uint64_t size_;
  uint32_t half_bits_;
  uint32_t half_mask_;
  std::array<uint32_t, 2> key_;
  uint32_t purpose_time_low_;
  uint32_t time_high_;
};

}  // namespace plateau
