// Passes over the validation set by all ranks, counted exactly.
#include "worker/train/validate.h"

#include <array>

namespace plateau {

Validator::Validator(Plan& plan, const StoreReader& store, const Preprocessing& preprocessing, ValidateOptions options,
                     Collective& collective)
    : plan_(plan), store_(store), preprocessing_(preprocessing), options_(std::move(options)), collective_(collective) {
  preprocessing_.scale_low = preprocessing_.scale_high = options_.scale;
}

LossSums Validator::Pass() {
  if (!pipeline_) {
    const int rows = plan_.options().batch;
    auto pipeline = Pipeline::Start(store_, preprocessing_,
                                    {.split = options_.split,
                                     .training = false,
                                     .global_batch = rows * collective_.world_size(),
                                     .rank = collective_.rank(),
                                     .world_size = collective_.world_size(),
                                     .rows = rows,
                                     .threads = options_.decode_threads,
                                     .progress = options_.progress});
    if (!pipeline) throw Failure(pipeline.error().code, pipeline.error().message);
    pipeline_ = std::move(*pipeline);
  }
  LossSums sums;
  while (true) {
    auto batch = pipeline_->Next();
    if (!batch) throw Failure(batch.error().code, batch.error().message);
    if (*batch == nullptr) break;
    const LaneBatch lane{(*batch)->images, (*batch)->labels, (*batch)->weights, (*batch)->sample_index};
    plan_.Forward(lane, 0);
    const LossSums part = plan_.Loss(lane, 1);
    sums.loss += part.loss;
    sums.images += part.images;
    sums.top1_correct += part.top1_correct;
    sums.top5_correct += part.top5_correct;
    pipeline_->Recycle(std::move(*batch));
  }
  pipeline_->Seek(0);
  return sums;
}

ValidationReport Validator::Run() {
  const LossSums sums = Pass();
  std::array<int64_t, 3> counts{sums.images, sums.top1_correct, sums.top5_correct};
  std::array<double, 1> loss{sums.loss};
  collective_.AllReduceSum(std::span<int64_t>(counts));
  collective_.AllReduceSum(std::span<double>(loss));
  const SplitInfo* split = store_.manifest().Split(options_.split);
  if (split == nullptr || counts[0] != static_cast<int64_t>(split->records))
    throw Failure(ErrorCode::kInternal,
                  fmt::format("rank {}: validation counted {} images, the split {} holds {}; please report this",
                              collective_.rank(), counts[0], options_.split, split != nullptr ? split->records : 0));
  return {
      .images = counts[0], .top1_correct = counts[1], .top5_correct = counts[2], .loss = loss[0] / static_cast<double>(counts[0])};
}

}  // namespace plateau
