// The loops over whole buffers that no oneDNN primitive does in place.
#pragma once

#include <cstddef>
#include <span>

namespace plateau {

// gradient[i] = output[i] > 0 ? gradient[i] * scale : 0, in place: backward of a ReLU (scale 1), or of a ReLU and inverted dropout
// whose dropped units are zero in `output` (scale 1 / (1 - rate)). False when a value of `output`, or of `gradient` before, is NaN
// or infinite: the loop waits for memory, so the look is free.
bool MaskGradient(const float* output, float* gradient, size_t count, float scale, int threads);
// `sum`[i] = the sum of the parts' values in their order, then, with an `output`, masked and scaled by it as above. `sum` may be
// one of the parts. At least one part. False when a value of `output`, or of the sum before the mask, is NaN or infinite.
bool CombineGradients(std::span<const float* const> parts, const float* output, float* sum, size_t count, float scale, int threads);
// output[i] = the sum of the inputs' values in their order; with `relu` negative sums become 0. NaN stays NaN.
void AddMaps(std::span<const float* const> inputs, float* output, size_t count, bool relu, int threads);
// False when any value is NaN or infinite.
bool AllFinite(const float* values, size_t count, int threads);

}  // namespace plateau
