// The collective over MPI: sums by a ring of our own, so that their bits do not depend on what the MPI library chooses.
#pragma once

#include <memory>

#include "worker/collective/collective.h"

namespace plateau {

// True when a launcher (mpirun, srun) started this process as a rank of a group.
bool LaunchedByMpi();

// Joins the group: MPI_Init_thread, once a process, before any other thread uses MPI (none does). The owner calls Finish() last.
// All-reduce of floats: ring reduce-scatter, then ring all-gather, each over Isend/Irecv. Part c of world_size parts is summed along
// ranks c, c+1, ... in one fixed order and then copied, so every rank holds the same bits. Waits poll, and give the core away after
// a while, because ranks, decoding threads and a coordinator may share cores.
Result<std::unique_ptr<Collective>> StartMpiCollective();

// The group this process belongs to: MPI when LaunchedByMpi(), else one process.
Result<std::unique_ptr<Collective>> StartCollective();

}  // namespace plateau
