// The loops over whole buffers that no oneDNN primitive does in place.
#pragma once

#include <cstddef>

namespace plateau {

// gradient[i] = output[i] > 0 ? gradient[i] * scale : 0, in place: backward of a ReLU (scale 1), or of a ReLU and inverted dropout
// whose dropped units are zero in `output` (scale 1 / (1 - rate)). False when a value of `output`, or of `gradient` before, is NaN
// or infinite: the loop waits for memory, so the look is free.
bool MaskGradient(const float* output, float* gradient, size_t count, float scale, int threads);
// False when any value is NaN or infinite.
bool AllFinite(const float* values, size_t count, int threads);

}  // namespace plateau
