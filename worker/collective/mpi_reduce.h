// All-reduce of floats over MPI in an order of our own: its bits do not depend on what the MPI library chooses.
#pragma once

#include <mpi.h>

#include <memory>
#include <span>
#include <vector>

#include "worker/collective/collective.h"
#include "worker/collective/patient_wait.h"

namespace plateau {

// Scratch memory that reductions borrow and give back, so that nothing is allocated after the first steps.
using ScratchPool = std::vector<std::vector<float>>;

struct ReduceGroup {
  MPI_Comm comm;
  int rank = 0, world_size = 1;
};

// Starts an in-place sum of `values` over the group; at most one reduction a tag at a time. `pool` outlives it.
// A power of two of ranks: vector halving with distance doubling, then the way back (Thakur, Rabenseifner, Gropp 2005,
// section 4.4). Every value is summed in the balanced binary tree over ranks, ((0+1)+(2+3))+..., so that a tree over lanes goes on
// across ranks. Otherwise a ring: part c of world_size parts is summed along ranks c, c+1, ... and then copied. Either way each
// value is added up once, in a fixed order, and copied: all ranks hold the same bits.
std::unique_ptr<PendingReduce> StartReduce(const ReduceGroup& group, int tag, std::span<float> values, ScratchPool& pool);

// Throws Failure for an MPI error code, naming the rank.
void CheckMpi(int code, const char* what, int rank);

}  // namespace plateau
