// The one way to tell NCCL which algorithm to take: the process's environment, which is only safe to change before there are threads.
#pragma once

namespace plateau {

// First thing in main: NCCL_ALGO=Ring and NCCL_PROTO=Simple where the environment does not name others. Left to itself NCCL follows its
// measurements of the machine; with one algorithm for sums of every size, the same ranks on the same machines give the same bits.
// Nothing reads the variables until a communicator is made, and NCCL's configuration (ncclConfig_t) has no place for them. Setting
// them later would race with every getenv of another thread, of which MPI and CUDA have many.
void FixNcclAlgorithm();
// Whether the environment names both.
bool NcclAlgorithmIsFixed();

}  // namespace plateau
