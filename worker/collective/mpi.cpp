// The collective over MPI: buckets by mpi_reduce, small exact sums in rank order, patient waits.
#include "worker/collective/mpi.h"

#include <mpi.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "worker/collective/mpi_reduce.h"
#include "worker/collective/single.h"

namespace plateau {
namespace {

constexpr size_t kBroadcastBytes = size_t{1} << 28;  // MPI counts are int: longer broadcasts go in parts
constexpr int kTags = 1 << 14;                       // reductions in flight at once are far fewer

void WaitFor(MPI_Request& request, const char* what, int rank) {
  PatientWait::Until([&] {
    int done = 0;
    CheckMpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), what, rank);
    return done != 0;
  });
}

class MpiCollective final : public Collective {
 public:
  MpiCollective(int rank, int world_size, MPI_Comm buckets) : rank_(rank), world_(world_size), buckets_(buckets) {}

  int rank() const override { return rank_; }
  int world_size() const override { return world_; }

  std::unique_ptr<PendingReduce> StartAllReduceSum(std::span<float> values) override {
    next_tag_ = (next_tag_ + 1) % kTags;
    return StartReduce({buckets_, rank_, world_}, next_tag_, values, pool_);
  }
  void AllReduceSum(std::span<float> values) override { StartAllReduceSum(values)->Wait(); }
  void AllReduceSum(std::span<double> values) override { SumInRankOrder(values, MPI_DOUBLE); }
  void AllReduceSum(std::span<int64_t> values) override { SumInRankOrder(values, MPI_INT64_T); }

  void Broadcast(std::span<char> bytes, int root) override {
    for (size_t begin = 0; begin < bytes.size(); begin += kBroadcastBytes) {
      const size_t count = std::min(kBroadcastBytes, bytes.size() - begin);
      MPI_Request request;
      CheckMpi(MPI_Ibcast(bytes.data() + begin, static_cast<int>(count), MPI_BYTE, root, MPI_COMM_WORLD, &request), "broadcast",
               rank_);
      WaitFor(request, "broadcast", rank_);
    }
  }
  std::string BroadcastText(const std::string& text, int root) override {
    int64_t length = rank_ == root ? static_cast<int64_t>(text.size()) : 0;
    Broadcast({reinterpret_cast<char*>(&length), sizeof(length)}, root);
    std::string result = rank_ == root ? text : std::string(static_cast<size_t>(length), '\0');
    Broadcast(result, root);
    return result;
  }
  void Barrier() override {
    MPI_Request request;
    CheckMpi(MPI_Ibarrier(MPI_COMM_WORLD, &request), "barrier", rank_);
    WaitFor(request, "barrier", rank_);
  }
  void Finish() override {
    MPI_Comm_free(&buckets_);
    MPI_Finalize();
  }
  [[noreturn]] void Abort(int exit_code) override {
    std::fflush(nullptr);
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::_Exit(exit_code);
  }

 private:
  // For a handful of values: gathered on rank 0, added in rank order, sent back. The order is fixed, whatever the library does.
  template <typename T>
  void SumInRankOrder(std::span<T> values, MPI_Datatype type) {
    const int count = static_cast<int>(values.size());
    std::vector<T> all(rank_ == 0 ? values.size() * static_cast<size_t>(world_) : 0);
    MPI_Request request;
    CheckMpi(MPI_Igather(values.data(), count, type, all.data(), count, type, 0, MPI_COMM_WORLD, &request), "gather", rank_);
    WaitFor(request, "gather", rank_);
    if (rank_ == 0) {
      std::fill(values.begin(), values.end(), T{});
      for (size_t i = 0; i < all.size(); ++i) values[i % values.size()] += all[i];
    }
    Broadcast({reinterpret_cast<char*>(values.data()), values.size_bytes()}, 0);
  }

  int rank_, world_;
  MPI_Comm buckets_;  // a communicator of their own, so that bucket tags never meet anything else
  int next_tag_ = 0;
  ScratchPool pool_;
};

}  // namespace

std::string MpiVersion() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string version(text, static_cast<size_t>(length));
  std::string first = version.substr(0, version.find_first_of(",\n"));
  if (first.starts_with("Open MPI v")) first.erase(9, 1);
  return first;
}

bool LaunchedByMpi() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"})
    if (std::getenv(name) != nullptr) return true;
  return false;
}

Result<std::unique_ptr<Collective>> StartMpiCollective() {
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS || provided < MPI_THREAD_FUNNELED)
    return Fail(ErrorCode::kUnavailable, "MPI did not start; check the mpirun command and that all hosts use the same Open MPI");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  int rank = 0, world_size = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &world_size);
  MPI_Comm buckets = MPI_COMM_NULL;
  if (MPI_Comm_dup(MPI_COMM_WORLD, &buckets) != MPI_SUCCESS)
    return Fail(ErrorCode::kUnavailable, "rank {}: MPI_Comm_dup failed; look into the logs of the other ranks", rank);
  MPI_Comm_set_errhandler(buckets, MPI_ERRORS_RETURN);
  return std::unique_ptr<Collective>(std::make_unique<MpiCollective>(rank, world_size, buckets));
}

Result<std::unique_ptr<Collective>> StartCollective() {
  if (LaunchedByMpi()) return StartMpiCollective();
  return std::unique_ptr<Collective>(std::make_unique<SingleCollective>());
}

}  // namespace plateau
