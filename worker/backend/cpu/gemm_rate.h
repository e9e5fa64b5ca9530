// The machine's own ceiling: how fast this library multiplies large float32 matrices here.
#pragma once

namespace plateau {

// GFLOP/s of oneDNN's sgemm on 2048 x 2048 matrices with `threads` threads, best of several runs; takes about a second.
double MeasureGemmGflops(int threads);

}  // namespace plateau
