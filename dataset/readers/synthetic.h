// Draws the synthetic data set: textured shapes on uneven grounds, a class a combination of shape and texture.
#pragma once

#include <cstdint>

#include "dataset/decode.h"
#include "dataset/manifest.h"

namespace plateau {

inline constexpr int kSyntheticClasses = 1280;  // most that can be told apart: 5 shapes x 4 textures x 8 hues x 8 grounds

// Synset and words of a class ("n90000001", "cross with upright stripes"). With up to 20 classes shape and texture alone decide;
// colours are drawn at random. Mirroring an image never changes its class.
ClassInfo SyntheticClass(int label, int classes);

// A pure function of its arguments: position, size, tilt, colours, ground and noise are drawn from (seed, split, ordinal). The
// shortest side is `side` pixels, the longest up to a third more. `out`'s memory is kept.
void DrawSynthetic(int label, int classes, int side, uint64_t seed, uint64_t split, uint64_t ordinal, Image& out);

}  // namespace plateau
