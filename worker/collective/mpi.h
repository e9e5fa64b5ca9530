// The collective over MPI: sums in an order of our own, so that their bits do not depend on what the MPI library chooses.
#pragma once

#include <memory>

#include "worker/collective/collective.h"

namespace plateau {

// True when a launcher (mpirun, srun) started this process as a rank of a group.
bool LaunchedByMpi();

// "Open MPI 4.1.4"; before the start too.
std::string MpiVersion();

// Joins the group: MPI_Init_thread, once a process, before any other thread uses MPI (none does). The owner calls Finish() last.
// The order of sums is that of mpi_reduce.h.
Result<std::unique_ptr<Collective>> StartMpiCollective();

// The group this process belongs to: MPI when LaunchedByMpi(), else one process.
Result<std::unique_ptr<Collective>> StartCollective();

}  // namespace plateau
