// Writes checkpoints in the background.
#include "worker/train/checkpoint_saver.h"

#include <chrono>

#include "common/log.h"
#include "common/text.h"

namespace plateau {

Status CheckpointSaver::Save(ParameterStore& parameters, CheckpointState state, bool final, int64_t order) {
  PLATEAU_TRY(Wait());
  snapshot_.Take(parameters);
  if (const std::string name = snapshot_.FirstNonFinite(); !name.empty())
    return Fail(ErrorCode::kNumeric,
                "step {}: {} holds a NaN or infinity; no checkpoint of it is written: lower lr.initial, or look at "
                "training.init and data.normalize",
                state.train.step, name);
  writing_ = std::async(std::launch::async, [this, state = std::move(state), final, order] {
    Status written = WriteAndPublish(state, final, order);
    if (!written) failed_.store(true);
    return written;
  });
  return {};
}

Status CheckpointSaver::WriteAndPublish(const CheckpointState& state, bool final, int64_t order) {
  const auto started = std::chrono::steady_clock::now();
  PLATEAU_ASSIGN(const auto written, WriteCheckpoint(files_, attempt_folder_, snapshot_, state, &pulse_.progress));
  PLATEAU_TRY(authority_.Publish(written, state, final, order));
  LogInfo("checkpoint {} written: {} in {}", written.folder, HumanBytes(written.bytes),
          HumanDuration(std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count()));
  return {};
}

Status CheckpointSaver::Wait() {
  if (!writing_.valid()) return {};
  return writing_.get();
}

}  // namespace plateau
