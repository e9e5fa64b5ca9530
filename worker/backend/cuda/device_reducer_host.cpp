// Sums over ranks through page-locked host memory: any two ranks can do that, also two on one device.
#include <algorithm>
#include <cstring>
#include <deque>
#include <vector>

#include "common/check.h"
#include "worker/backend/cuda/device_reducer_sum.h"
#include "worker/backend/cuda/kernels/types.h"
#include "worker/collective/patient_wait.h"

namespace plateau::cuda {
namespace {

class NoSum final : public RankSum {
 public:
  bool capturable() const override { return true; }
  void Start(std::span<const Stretch>) override {}
  void Finish() override {}
  void Wait(const Event& done) override { done.Wait(); }
  std::string description() const override { return ""; }
};

constexpr int64_t kPieceFloats = int64_t{2} << 20;  // goes down, over and up as one: the three ways work at the same time

// The host starts the sum of a piece when its copy has come down, so the host must look again and again, as Open MPI wants anyway: a
// step is queued in pieces and no graph.
class HostSum final : public RankSum {
 public:
  HostSum(Collective& collective, const Stream& compute, int64_t most_floats)
      : collective_(collective), compute_(compute), staging_(static_cast<size_t>(most_floats) * sizeof(float)), room_(most_floats) {}

  ~HostSum() override {  // copies may still read or write the staging memory
    cudaStreamSynchronize(down_.get());
    cudaStreamSynchronize(up_.get());
  }

  bool capturable() const override { return false; }

  void Start(std::span<const Stretch> stretches) override {
    ready_.Record(compute_.get());
    ready_.Block(down_.get());
    open_ = nullptr;  // pieces do not reach over two calls: the second may come much later
    for (Stretch rest : stretches)
      while (rest.count > 0) {
        const int64_t count = Take(rest);
        rest = {rest.values + count, rest.count - count};
      }
    if (open_ != nullptr) Close();
    Advance();
  }

  void Finish() override {
    PatientWait::Until([this] {
      Advance();
      return started_ == used_;
    });
    for (size_t p = returned_; p < used_; ++p) {
      if (pieces_[p].pending) pieces_[p].pending->Wait();
      Return(pieces_[p]);
    }
    back_.Record(up_.get());
    back_.Block(compute_.get());
    used_ = started_ = returned_ = 0;
    filled_ = 0;
  }

  void Wait(const Event& done) override { done.Wait(); }
  std::string description() const override { return "all-reduce MPI through host memory"; }

 private:
  struct Piece {
    std::vector<Stretch> parts;
    std::span<float> values;  // in staging_
    Event copied;
    std::unique_ptr<PendingReduce> pending;
  };

  // Adds as much of `rest` to the open piece as it has room for.
  int64_t Take(const Stretch& rest) {
    if (open_ == nullptr) {
      if (used_ == pieces_.size()) pieces_.emplace_back();
      open_ = &pieces_[used_];
      open_->parts.clear();
      open_->values = {staging_.as<float>() + filled_, 0};
    }
    const int64_t held = static_cast<int64_t>(open_->values.size()), count = std::min(rest.count, kPieceFloats - held);
    PLATEAU_CHECK(filled_ + count <= room_, "{} floats of a step, room for {}", filled_ + count, room_);
    CopyToHost(staging_.as<float>() + filled_, rest.values, static_cast<size_t>(count) * sizeof(float), down_.get());
    open_->parts.push_back({rest.values, count});
    open_->values = {open_->values.data(), static_cast<size_t>(held + count)};
    filled_ += count;
    if (held + count == kPieceFloats) Close();
    return count;
  }

  void Close() {
    open_->copied.Record(down_.get());
    open_ = nullptr;
    ++used_;
  }

  // Starts what has come down, in order, and sends up what is summed.
  void Advance() {
    for (; started_ < used_ && pieces_[started_].copied.Done(); ++started_)
      pieces_[started_].pending = collective_.StartAllReduceSum(pieces_[started_].values);
    for (size_t p = returned_; p < started_; ++p) {
      const bool done = !pieces_[p].pending || pieces_[p].pending->Test();
      if (done && p == returned_) Return(pieces_[p]);
    }
  }

  void Return(Piece& piece) {
    piece.pending.reset();
    const float* from = piece.values.data();
    for (const Stretch& part : piece.parts) {
      CopyToDevice(part.values, from, static_cast<size_t>(part.count) * sizeof(float), up_.get());
      from += part.count;
    }
    ++returned_;
  }

  Collective& collective_;
  const Stream& compute_;
  Stream down_, up_;
  Event ready_, back_;
  PinnedBuffer staging_;
  int64_t room_ = 0, filled_ = 0;            // floats
  std::deque<Piece> pieces_;                 // kept from step to step; a deque, because events do not move
  size_t used_ = 0, started_ = 0, returned_ = 0;  // pieces of this step
  Piece* open_ = nullptr;
};

}  // namespace

std::unique_ptr<RankSum> MakeNoSum() { return std::make_unique<NoSum>(); }

std::unique_ptr<RankSum> MakeHostSum(Collective& collective, const Stream& compute, int64_t most_floats) {
  return std::make_unique<HostSum>(collective, compute, most_floats);
}

}  // namespace plateau::cuda
