// Every kernel of our own. All are queued on `stream` and return at once; every sum has one fixed order, so that the same call
// gives the same bits in every run. Maps are NHWC (types.h); arithmetic is in float whatever the maps hold, without contraction
// into fused multiply-adds: the same bodies give the same bits on the host, transcendental functions left out. Pointers are aligned
// to 16 bytes, maps have fewer than 2^34 values; a call with other shapes aborts.
//
// NaN: a ReLU here keeps NaN (engines of the libraries may turn it into 0, and infinity into the largest float, which therefore counts
// as not finite here) and its backward pass gives 0 where its output is NaN; a max pool takes NaN where it stands first in its window
// and passes over it elsewhere. Kernels with `nonfinite` (null: do not look) raise it to 1 when a value they read is NaN or infinite,
// and never lower it: a look at what flies by anyway, for Plan::HiddenFinite. With it on every pool and bias gradient, what is left to
// look at (FlagNonFinite) are weight gradients, which are not finite when an output that their layer read is infinite.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>

#include "common/pixel_scale.h"
#include "worker/backend/cuda/kernels/types.h"

namespace plateau::cuda {

// ---- input (input.cu)
// images [n, channels, h, w] float, normalised -> out.
void InputFromFloat(cudaStream_t stream, const float* images, const Map& out, int32_t* nonfinite = nullptr);
// pixels [n, channels, h, w] bytes, 1 to kMostPixelChannels channels; scales [n] -> out = pixel * gain + offset, mirrored where
// `flip` is not 0: the bits of ToValues, which are those of the loader's floats. Nothing looks for what is not finite: bytes are finite,
// and so are gains and offsets as the loader forms them.
void InputFromBytes(cudaStream_t stream, const uint8_t* pixels, const PixelScale* scales, const Map& out);

// ---- elementwise (elementwise.cu, channels.cu, dropout.cu)
void CastToBf16(cudaStream_t stream, const float* from, void* to, int64_t count);
void CastToFloat(cudaStream_t stream, const void* bf16, float* to, int64_t count);
void AddTo(cudaStream_t stream, float* sum, const float* values, int64_t count);  // sum += values
void Copy(cudaStream_t stream, float* to, const float* from, int64_t count);
// y = y + bias by channel (bias null: none), then ReLU when asked: where no engine fuses them.
void BiasRelu(cudaStream_t stream, const Map& y, const float* bias, bool relu);
// dy = y > 0 ? dy : 0, in place; y is the ReLU's output. `nonfinite` looks at both.
void ReluBackward(cudaStream_t stream, const Map& y, const Map& dy, int32_t* nonfinite = nullptr);
// out = relu?(a + b + ...), 1 to 8 maps of one shape: the add layer, and sums of the gradients of several consumers with
// `mask` = the output whose ReLU they go through (data null: none). out may be one of `parts`. `nonfinite` looks at the sum and the
// mask.
void SumMaps(cudaStream_t stream, std::span<const Map> parts, bool relu, const Map& mask, const Map& out,
             int32_t* nonfinite = nullptr);
// Channels [from, from + part.channels) of `whole` <- part, or part <- those of `whole`. The part that ends at whole's last channel
// also writes the zeros behind it.
void CopyChannelsIn(cudaStream_t stream, const Map& part, int from, const Map& whole);
void CopyChannelsOut(cudaStream_t stream, const Map& whole, int from, const Map& part);
// *flag = 1 when a value is NaN or infinite; never lowered.
void FlagNonFinite(cudaStream_t stream, const void* values, DataType type, int64_t count, int32_t* flag);
// Inverted dropout in place, forward and backward alike: unit u of sample i (canonical C,H,W order of the map) is zeroed when
// DropoutWord({seed, scalars->step, sample_index[i], layer}, u) < DropoutThreshold(rate), else multiplied by 1 / (1 - rate).
void Dropout(cudaStream_t stream, const Map& y, double rate, uint64_t seed, int layer, const uint64_t* sample_index,
             const StepScalars* scalars);

// ---- reductions (reduce.cu)
// db[c] = sum over pixels of dy[., c], float, `stored` values. `partial`: BiasGradientScratch floats. `nonfinite` looks at the
// sums, which are not finite when a value of dy is not.
int64_t BiasGradientScratch(const MapShape& shape);
void BiasGradient(cudaStream_t stream, const Map& dy, float* partial, float* db, int32_t* nonfinite = nullptr);
// BiasGradient of MaxPoolBackward's dx, taken from the pool's dy and winners (a quarter of the pixels); scratch for dy's shape.
void PoolBiasGradient(cudaStream_t stream, const Map& dy, const uint8_t* winner, float* partial, float* db,
                      int32_t* nonfinite = nullptr);

// ---- pools and normalisation of responses (pool.cu, average_pool.cu, lrn.cu)
struct PoolWindow {
  int kernel = 2, stride = 2, pad = 0;  // output size is the output map's; windows may end outside the input
};
// `winner` [values of y] uint8: which pixel of its window (row-major) won; equal values: the first. Null at test. With `relu`, x is
// the output of a ReLU, and winners that are not > 0 are kNoWinner: the backward pass of the pool is then that of the ReLU as
// well and needs neither x nor y. Kernels to 15 pixels. `nonfinite` looks at x where windows are.
inline constexpr uint8_t kNoWinner = 255;
void MaxPoolForward(cudaStream_t stream, const Map& x, const PoolWindow& window, bool relu, const Map& y, uint8_t* winner,
                    int32_t* nonfinite = nullptr);
// dx = sum of dy over the windows that dx's pixel won.
void MaxPoolBackward(cudaStream_t stream, const Map& dy, const uint8_t* winner, const PoolWindow& window, const Map& dx,
                     int32_t* nonfinite = nullptr);
// Mean over the window's pixels inside x (a global pool has the window of the whole map).
void AveragePoolForward(cudaStream_t stream, const Map& x, const PoolWindow& window, const Map& y);
void AveragePoolBackward(cudaStream_t stream, const Map& dy, const PoolWindow& window, const Map& dx);
// As LrnDef, whose header nvcc cannot read. y = x / (k + alpha * sum of x^2 over `size` channels around)^beta, k > 0. Not in place:
// neighbours read what a thread would overwrite.
struct LrnWindow {
  int size = 5;  // to 9
  double k = 2, alpha = 1e-4, beta = 0.75;
};
void LrnForward(cudaStream_t stream, const Map& x, const LrnWindow& lrn, const Map& y);
void LrnBackward(cudaStream_t stream, const Map& x, const Map& dy, const LrnWindow& lrn, const Map& dx);

// ---- batch norm (batch_norm.cu); vectors are float, `stored` values, zero behind the network's channels
// Mean and biased variance of each channel over the first `rows` samples, sums in double. `partial`: BatchNormScratch bytes.
int64_t BatchNormScratch(const MapShape& shape);
void BatchNormStatistics(cudaStream_t stream, const Map& x, int rows, void* partial, float* mean, float* variance,
                         int32_t* nonfinite = nullptr);
// y = relu?(scale * (x - mean) / sqrt(variance + epsilon) + shift)
void BatchNormForward(cudaStream_t stream, const Map& x, const float* scale, const float* shift, const float* mean,
                      const float* variance, float epsilon, bool relu, const Map& y);
// With the statistics of x's first `rows` samples; dx of other rows is zero. `dy` is already behind the ReLU; dx may be dy.
void BatchNormBackward(cudaStream_t stream, const Map& x, const Map& dy, const float* scale, const float* mean,
                       const float* variance, float epsilon, int rows, void* partial, const Map& dx, float* dscale, float* dshift,
                       int32_t* nonfinite = nullptr);
// What a lane adds to the running averages: batch_mean = share * mean, batch_variance = share * unbiased variance (`count` values).
void BatchNormShare(cudaStream_t stream, const float* mean, const float* variance, int stored, int64_t count, float share,
                    float* batch_mean, float* batch_variance);

// ---- loss (softmax.cu)
// logits [n, 1, 1, stored] of `channels` classes. Gradient (null data at test): gradient_scale * weight * (p - onehot),
// gradient_scale = loss weight / global batch. `rows`: n RowLoss of scratch. Adds to *loss what LossSums counts, rows in order,
// ties to the lower class; auxiliary heads pass rows = loss = null. A label outside the classes makes its row's loss NaN (hosts
// refuse it earlier).
void SoftmaxLoss(cudaStream_t stream, const Map& logits, const int32_t* labels, const float* weights, float gradient_scale,
                 const Map& gradient, RowLoss* rows, DeviceLoss* loss);
// out [n, channels] float, dense.
void LogitsToFloat(cudaStream_t stream, const Map& logits, float* out);

// ---- update (sgd.cu)
// totals = {loss, images, top1, nonfinite != 0 || *hidden_nonfinite, votes...}: this rank's part of the sums.
void PackTotals(cudaStream_t stream, const DeviceLoss* loss, const int32_t* hidden_nonfinite, const StepScalars* scalars,
                float* totals);
// Raises flags->halted when the summed totals' nonfinite is not zero.
void GateUpdate(cudaStream_t stream, const float* totals, TrainerFlags* flags);
// Nothing when halted. Else for every span: v = momentum * v - lr * (g + decay * w), w += v (Caffe's SGDSolver; recipe.md), or for
// running averages w = (1 - m) * w + m * g; `copy` (bf16, null: none) = w; flags->nonfinite_parameter = the lowest span that holds
// a NaN or infinity. One pass over flat buffers of `total` floats; `spans` in device memory, in order of begin.
struct SgdBuffers {
  float* weights = nullptr;
  float* momenta = nullptr;
  const float* gradients = nullptr;
  void* copy = nullptr;
  int64_t total = 0;
};
void SgdUpdate(cudaStream_t stream, const SgdBuffers& buffers, const ParameterSpan* spans, int span_count, float momentum,
               const StepScalars* scalars, TrainerFlags* flags);

}  // namespace plateau::cuda
