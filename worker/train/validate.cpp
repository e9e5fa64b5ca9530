// Passes over the validation set by all ranks, counted exactly.
#include "worker/train/validate.h"

#include <array>

#include "worker/train/step.h"

namespace plateau {

namespace {

std::unique_ptr<Scorer> MakeScorer(Engine& engine, Plan& plan) {
  auto scorer = engine.CreateScorer(plan, engine.takes_pixels());
  if (!scorer) throw Failure(scorer.error().code, scorer.error().message);
  return std::move(*scorer);
}

void Add(LossSums& sums, const LossSums& part) {
  sums.loss += part.loss;
  sums.images += part.images;
  sums.top1_correct += part.top1_correct;
  sums.top5_correct += part.top5_correct;
}

}  // namespace

Validator::Validator(Engine& engine, Plan& plan, const StoreReader& store, const Preprocessing& preprocessing,
                     ValidateOptions options, Collective& collective)
    : rows_(plan.options().batch),
      pixels_(engine.takes_pixels()),
      scorer_(MakeScorer(engine, plan)),
      store_(store),
      preprocessing_(preprocessing),
      options_(std::move(options)),
      collective_(collective) {
  preprocessing_.scale_low = preprocessing_.scale_high = options_.scale;
}

void Validator::Start() {
  auto pipeline = Pipeline::Start(store_, preprocessing_,
                                  {.split = options_.split,
                                   .training = false,
                                   .global_batch = rows_ * collective_.world_size(),
                                   .rank = collective_.rank(),
                                   .world_size = collective_.world_size(),
                                   .rows = rows_,
                                   .threads = options_.decode_threads,
                                   .pixels = pixels_,
                                   .progress = options_.progress});
  if (!pipeline) throw Failure(pipeline.error().code, pipeline.error().message);
  pipeline_ = std::move(*pipeline);
}

// The sums of batches are added in their order, however far a device is behind.
LossSums Validator::Pass() {
  if (!pipeline_) Start();
  LossSums sums;
  int unsettled = 0;
  while (true) {
    auto batch = pipeline_->Next();
    if (!batch) throw Failure(batch.error().code, batch.error().message);
    if (*batch == nullptr) break;
    scorer_->Enqueue(RowsOf(**batch));
    pipeline_->Recycle(std::move(*batch));
    for (++unsettled; unsettled > scorer_->depth(); --unsettled) Add(sums, scorer_->Settle());
  }
  for (; unsettled > 0; --unsettled) Add(sums, scorer_->Settle());
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
