// Validation on the device: a batch is copied to it while it works on the one before, and read when that one's sums are there.
#include "worker/backend/cuda/cuda_scorer.h"

#include <array>
#include <deque>
#include <memory>

#include "common/check.h"
#include "worker/backend/cuda/feeder.h"
#include "worker/backend/cuda/kernels/kernels.h"

namespace plateau::cuda {
namespace {

class CudaScorer final : public Scorer {
 public:
  CudaScorer(CudaPlan& plan, bool pixels)
      : plan_(plan), memory_(std::make_shared<Memory>(plan.options().batch, plan.image_values(), pixels, plan.engine_options().threads)) {
    PLATEAU_CHECK(!plan.options().training, "{}", "a training plan");
  }
  // The device may still use the memory, and behind a step of training that waits for another rank it may do so for ever.
  ~CudaScorer() override { plan_.Leave(std::move(memory_)); }

  int depth() const override { return StepFeeder::kSlots - 1; }
  void Enqueue(const LaneBatch& rows) override;
  LossSums Settle() override;

 private:
  struct Slot {
    DeviceBuffer sums{sizeof(DeviceLoss)};
    PinnedBuffer host{sizeof(DeviceLoss)};
    Event done{false, true};  // decoding threads want the core that waits
  };
  struct Memory {
    Memory(int rows, int64_t image_values, bool pixels, int threads) : feeder(rows, image_values, pixels, threads) {}
    StepFeeder feeder;
    std::array<Slot, StepFeeder::kSlots> slots;
  };
  const Stream& stream() const { return plan_.libraries().stream(); }

  CudaPlan& plan_;
  std::shared_ptr<Memory> memory_;
  int next_slot_ = 0;
  std::deque<int> underway_;
};

void CudaScorer::Enqueue(const LaneBatch& rows) {
  PLATEAU_CHECK(static_cast<int>(underway_.size()) <= depth(), "a batch with {} unsettled", underway_.size());
  RequireLabels(rows.labels, rows.weights, plan_.network().classes);
  const int number = next_slot_;
  Slot& slot = memory_->slots[static_cast<size_t>(number)];
  StepFeeder& feeder = memory_->feeder;
  auto* sums = slot.sums.as<DeviceLoss>();
  feeder.Feed(number, {.rows = rows}, stream());
  const DeviceRows on_device = feeder.Rows(number, 0, plan_.options().batch);
  plan_.EnqueueForward(on_device, feeder.scalars(number));
  Check(cudaMemsetAsync(sums, 0, sizeof(DeviceLoss), stream().get()), "cudaMemsetAsync");
  plan_.EnqueueLoss(on_device, 1, sums);
  CopyToHost(slot.host.data(), sums, sizeof(DeviceLoss), stream().get());
  slot.done.Record(stream().get());
  underway_.push_back(number);
  next_slot_ = (number + 1) % StepFeeder::kSlots;
}

LossSums CudaScorer::Settle() {
  PLATEAU_CHECK(!underway_.empty(), "{}", "no batch is unsettled");
  const Slot& slot = memory_->slots[static_cast<size_t>(underway_.front())];
  slot.done.Wait();
  underway_.pop_front();
  const DeviceLoss& sums = *slot.host.as<DeviceLoss>();
  return {.loss = sums.loss, .images = sums.images, .top1_correct = sums.top1_correct, .top5_correct = sums.top5_correct};
}

}  // namespace

Result<std::unique_ptr<Scorer>> CreateCudaScorer(CudaPlan& evaluation, bool pixels) {
  try {
    return std::make_unique<CudaScorer>(evaluation, pixels);
  } catch (const Failure& failure) {
    const bool memory = failure.code() == ErrorCode::kUnavailable;
    return Fail(failure.code(), "{}: two validation batches of {} rows on the device: {}{}", evaluation.network().name,
                evaluation.options().batch, failure.what(), memory ? "; use a smaller training.micro_batch, or more ranks" : "");
  }
}

}  // namespace plateau::cuda
