// Where a run begins: fresh weights, or a checkpoint that rank 0 finds and shares.
#include "worker/train/resume.h"

#include <algorithm>

#include "common/log.h"
#include "worker/nn/init.h"
#include "worker/train/agreement.h"
#include "worker/train/checkpoint.h"
#include "worker/train/run_folder.h"

namespace plateau {
namespace {

bool HasBatchNorm(const Network& network) {
  return std::ranges::any_of(network.layers, [](const LayerDef& layer) { return layer.kind == LayerKind::kBatchNorm; });
}

// The checkpoint that `resume` names, its tensors put into the store; nullopt for fresh weights. Rank 0 only.
Result<std::optional<CheckpointState>> Find(FileSystem& files, ParameterStore& parameters, const ResumeOptions& options,
                                            const RunIdentity& identity, bool& published) {
  std::optional<LoadedCheckpoint> loaded;
  if (options.resume == "none") return std::optional<CheckpointState>();
  if (options.resume == "auto") {
    PLATEAU_ASSIGN(auto newest, LoadNewest(files, options.run_folder));
    if (!newest) return std::optional<CheckpointState>();
    loaded = std::move(newest->checkpoint);
    published = newest->published;
  } else {
    PLATEAU_ASSIGN(loaded, LoadCheckpoint(files, options.resume));
  }
  if (const std::string why = WhyNotResumable(identity, loaded->state.identity); !why.empty())
    return Fail(ErrorCode::kInvalidInput, "cannot go on from {}: {}; set it back, or begin anew with --resume none", loaded->folder,
                why);
  const Fingerprint &now = identity.fingerprint, &then = loaded->state.identity.fingerprint;
  if (const std::string text = FingerprintDifference(now, then); !text.empty())
    LogWarning("resuming under another fingerprint: {}; samples, crops and masks stay the same, but {}", text,
               DifferenceMeans(now, then, HasBatchNorm(*options.network)));
  PLATEAU_TRY(ApplyCheckpoint(*loaded, parameters));
  LogInfo("resuming from {} at step {}", loaded->folder, loaded->state.train.step);
  return std::optional(std::move(loaded->state));
}

// Draws fresh weights, and puts a trained model's over them where the specification says so. Rank 0 only.
Result<std::optional<WarmStart>> BeginFresh(FileSystem& files, ParameterStore& parameters, const ResumeOptions& options,
                                            const RunIdentity& identity) {
  InitParameters(parameters, options.init, options.seed);
  if (!options.init_from) return std::optional<WarmStart>();
  if (options.init_from->checkpoint.empty())
    return Fail(ErrorCode::kInvalidInput, "model.init_from.job: {}: only a coordinator knows jobs; give model.init_from.checkpoint, the "
                "folder of its run or of a checkpoint", options.init_from->job);
  PLATEAU_ASSIGN(const TrainedModel source, OpenTrainedModel(files, options.init_from->checkpoint));
  PLATEAU_ASSIGN(WarmStart start, TakeWeights(source, *options.init_from, *options.network, identity.preprocessing, parameters));
  LogInfo("{} tensors start from {}{}{}", start.taken.size(), start.checkpoint,
          start.folded ? ", its standard deviation folded into the first layer" : "",
          start.skipped.empty() ? "" : fmt::format("; fresh stay {}", fmt::join(start.skipped, "; ")));
  return std::optional(std::move(start));
}

}  // namespace

Result<Beginning> BeginOrResume(FileSystem& files, Collective& collective, ParameterStore& parameters, const ResumeOptions& options,
                                RunIdentity& identity) {
  Result<std::string> text = std::string();
  bool published = false;
  Beginning beginning;
  if (collective.rank() == 0) {
    auto found = Find(files, parameters, options, identity, published);
    if (!found)
      text = Fail(found.error());
    else if (*found)
      text = EncodeState(**found);
    else if (auto fresh = BeginFresh(files, parameters, options, identity); fresh)
      beginning.warm_start = std::move(*fresh);
    else
      text = Fail(fresh.error());
  }
  PLATEAU_ASSIGN(const std::string shared, ShareText(collective, text));
  for (int p = 0; p < parameters.count(); ++p)
    for (const std::span<float> values : {parameters.weight(p), parameters.momentum(p)})
      collective.Broadcast({reinterpret_cast<char*>(values.data()), values.size_bytes()}, 0);
  collective.Broadcast({reinterpret_cast<char*>(&published), sizeof(published)}, 0);
  parameters.WeightsChanged();
  identity.lineage = identity.attempt;
  if (shared.empty()) {
    beginning.state.lr = InitialLrState(options.lr);
    return beginning;
  }
  PLATEAU_ASSIGN(CheckpointState resumed, DecodeState(shared, "rank 0's checkpoint"));
  if (options.resume == "auto") identity.lineage = resumed.identity.lineage;
  beginning.state = std::move(resumed.train);
  beginning.unpublished = !published;
  return beginning;
}

}  // namespace plateau
