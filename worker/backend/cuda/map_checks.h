// Checks what a caller hands to a kernel before it is queued; wrong shapes are programmers' mistakes and abort with their values.
#pragma once

#include <cstdint>

#include "worker/backend/cuda/kernels/types.h"

namespace plateau::cuda {

// Vectors of eight values of a map whose shape, size (below 2^31 vectors) and 16-byte alignment are fine. `kernel` names the
// caller.
int64_t CheckedVectors(const Map& map, const char* kernel);
// As above, and `other` has the same samples, channels, rows and columns, and the same type.
int64_t CheckedVectors(const Map& map, const Map& other, const char* kernel);
// `b` covers `a`'s samples and channels in the same type; the sizes of the maps may differ.
void CheckSameChannels(const Map& a, const Map& b, const char* kernel);
void CheckAligned(const void* data, const char* kernel);
void CheckHolds(bool condition, const char* kernel, const char* what);

}  // namespace plateau::cuda
