// Steps beside a checkpoint.
#include "worker/bench_checkpoint.h"

#include <algorithm>
#include <chrono>

#include "common/checksum.h"
#include "common/safetensors.h"
#include "worker/train/checkpoint_saver.h"
#include "worker/train/run_folder.h"

namespace plateau {
namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

CheckpointState StateOf(int64_t step) {
  CheckpointState state;
  state.identity.spec_json = R"({"reproducibility":{"seed":1}})";
  state.identity.images = 1;
  state.train.step = step;
  return state;
}

// Of the canonical weights, parameter by parameter.
std::vector<uint64_t> Checksums(ParameterStore& parameters) {
  std::vector<uint64_t> checksums;
  std::vector<float> canonical;
  parameters.Fetch();
  for (int p = 0; p < parameters.count(); ++p) {
    canonical.resize(static_cast<size_t>(parameters.info(p).CanonicalCount()));
    parameters.ToCanonical(p, parameters.weight(p), canonical);
    checksums.push_back(Checksum({reinterpret_cast<const char*>(canonical.data()), canonical.size() * sizeof(float)}));
  }
  return checksums;
}

Status Compare(FileSystem& files, const std::string& folder, ParameterStore& parameters, const std::vector<uint64_t>& expected) {
  PLATEAU_ASSIGN(const auto newest, LoadNewest(files, folder));
  if (!newest) return Fail(ErrorCode::kCorrupt, "{}: no checkpoint was published", folder);
  PLATEAU_ASSIGN(const auto model, SafetensorsFile::Parse(newest->checkpoint.model, newest->checkpoint.folder));
  for (int p = 0; p < parameters.count(); ++p) {
    const ParameterInfo& info = parameters.info(p);
    PLATEAU_ASSIGN(const auto values, model.Floats(info.name, info.shape));
    if (Checksum({reinterpret_cast<const char*>(values.data()), values.size_bytes()}) != expected[static_cast<size_t>(p)])
      return Fail(ErrorCode::kCorrupt, "{}: {} is not what it was at the checkpoint's step", newest->checkpoint.folder, info.name);
  }
  return {};
}

}  // namespace

Result<CheckpointTimes> TimeCheckpoints(ParameterStore& parameters, int threads, const std::string& folder, int rounds,
                                        int plain_steps, const std::function<void()>& step) {
  PosixFileSystem files;
  if (files.Exists(folder))
    return Fail(ErrorCode::kConflict, "--checkpoint {}: is there already; name a folder that is not, on the disk to be measured",
                folder);
  PLATEAU_TRY(files.MakeDirectories(folder));
  const auto authority = MakeLocalAuthority(files, folder, {}, {.keep_last = 1, .keep_best = 0});
  Pulse pulse;
  CheckpointSaver saver(files, folder + "/attempt-1", *authority, parameters, threads, pulse);
  CheckpointTimes times;
  std::vector<uint64_t> expected;
  for (int round = 0; round < rounds; ++round) {
    for (int i = 0; i < plain_steps; ++i) {
      const double begin = Seconds();
      step();
      times.plain_s.push_back(Seconds() - begin);
    }
    if (round + 1 == rounds) expected = Checksums(parameters);
    const double saved = Seconds();
    PLATEAU_ASSIGN(const SavePause pause, saver.Save(StateOf(round + 1)));
    times.snapshot_s.push_back(pause.snapshot_s);
    for (double begin = saved; saver.writing(); begin = Seconds()) {
      step();
      times.during_s.push_back(Seconds() - begin);
    }
    times.write_s.push_back(Seconds() - saved);
    PLATEAU_TRY(saver.Wait());
  }
  PLATEAU_TRY(Compare(files, folder, parameters, expected));
  PLATEAU_ASSIGN(times.bytes, files.Size(fmt::format("{}/attempt-1/{}/model.safetensors", folder, CheckpointFolderName(rounds))));
  times.bytes *= 2;
  PLATEAU_TRY(files.RemoveAll(folder));
  for (auto* list : {&times.plain_s, &times.during_s, &times.snapshot_s, &times.write_s}) std::sort(list->begin(), list->end());
  if (times.during_s.empty())
    return Fail(ErrorCode::kInvalidInput, "the checkpoint was written before a step began; take a larger network or batch");
  return times;
}

}  // namespace plateau
