// Times sgemm.
#include "worker/backend/cpu/gemm_rate.h"

#include <omp.h>

#include <algorithm>
#include <chrono>

#include <dnnl.h>

#include "common/error.h"
#include "worker/backend/cpu/huge_buffer.h"

namespace plateau {

double MeasureGemmGflops(int threads) {
  constexpr dnnl_dim_t kSide = 2048;
  constexpr int kRuns = 8;
  constexpr double kFlops = 2.0 * kSide * kSide * kSide;
  omp_set_num_threads(threads);
  HugeBuffer a(kSide * kSide * sizeof(float)), b(kSide * kSide * sizeof(float)), c(kSide * kSide * sizeof(float));
  std::fill_n(a.floats(), kSide * kSide, 0.5F);
  std::fill_n(b.floats(), kSide * kSide, 0.25F);
  c.Touch(threads);
  double best_s = 1e30;
  for (int run = 0; run < kRuns; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    const auto status =
        dnnl_sgemm('N', 'N', kSide, kSide, kSide, 1.0F, a.floats(), kSide, b.floats(), kSide, 0.0F, c.floats(), kSide);
    best_s = std::min(best_s, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    if (status != dnnl_success || c.floats()[0] != 0.5F * 0.25F * kSide)
      throw Failure(ErrorCode::kInternal, "oneDNN's sgemm gave a wrong product");
  }
  return kFlops / best_s / 1e9;
}

}  // namespace plateau
