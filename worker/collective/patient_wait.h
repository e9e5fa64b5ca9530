// A wait for what has no event to wait for.
#pragma once

namespace plateau {

// Polls until `done()` says so: first hot, then offering the core, then in short sleeps. Open MPI moves data only inside its calls,
// and NCCL has no call that waits for a communicator with a bound, so there is no event to wait for; ranks, decoding threads and a
// coordinator may share cores.
class PatientWait {
 public:
  template <typename Done>
  static void Until(Done done) {
    for (PatientWait wait; !done();) wait.Pause();
  }

 private:
  void Pause();
  int polls_ = 0;
};

}  // namespace plateau
