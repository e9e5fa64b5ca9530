// One pass over the validation set by all ranks, counted exactly.
#include "worker/train/validate.h"

#include <array>

namespace plateau {

ValidationReport Validate(Plan& plan, const StoreReader& store, const Preprocessing& preprocessing, const ValidateOptions& options,
                          Collective& collective) {
  Preprocessing centre = preprocessing;
  centre.scale_low = centre.scale_high = options.scale;
  const int rows = plan.options().batch;
  PipelineOptions pass{.split = options.split,
                       .training = false,
                       .global_batch = rows * collective.world_size(),
                       .rank = collective.rank(),
                       .world_size = collective.world_size(),
                       .rows = rows,
                       .threads = options.decode_threads,
                       .progress = options.progress};
  auto pipeline = Pipeline::Start(store, centre, pass);
  if (!pipeline) throw Failure(pipeline.error().code, pipeline.error().message);
  LossSums sums;
  while (true) {
    auto batch = (*pipeline)->Next();
    if (!batch) throw Failure(batch.error().code, batch.error().message);
    if (*batch == nullptr) break;
    const LaneBatch lane{(*batch)->images, (*batch)->labels, (*batch)->weights, (*batch)->sample_index};
    plan.Forward(lane, 0);
    const LossSums part = plan.Loss(lane, 1);
    sums.loss += part.loss;
    sums.images += part.images;
    sums.top1_correct += part.top1_correct;
    sums.top5_correct += part.top5_correct;
    (*pipeline)->Recycle(std::move(*batch));
  }
  std::array<int64_t, 3> counts{sums.images, sums.top1_correct, sums.top5_correct};
  std::array<double, 1> loss{sums.loss};
  collective.AllReduceSum(std::span<int64_t>(counts));
  collective.AllReduceSum(std::span<double>(loss));
  const SplitInfo* split = store.manifest().Split(options.split);
  if (split == nullptr || counts[0] != static_cast<int64_t>(split->records))
    throw Failure(ErrorCode::kInternal,
                  fmt::format("rank {}: validation counted {} images, the split {} holds {}; please report this", collective.rank(),
                              counts[0], options.split, split != nullptr ? split->records : 0));
  return {
      .images = counts[0], .top1_correct = counts[1], .top5_correct = counts[2], .loss = loss[0] / static_cast<double>(counts[0])};
}

}  // namespace plateau
