// A trained network made ready for testing: its checkpoint found and verified, its weights in the engines of every rank.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "common/file.h"
#include "dataset/manifest.h"
#include "worker/backend/device/device.h"
#include "worker/collective/collective.h"
#include "worker/evaluate/settings.h"
#include "worker/evaluate/tester.h"
#include "worker/nn/recorded_choices.h"
#include "worker/train/state.h"

namespace plateau {

struct TestedModel {
  std::string folder;             // of the checkpoint
  std::string manifest_checksum;  // of its manifest.json
  RunIdentity identity;           // what the weights were made with
  int64_t step = 0;
  Network network;                       // as trained, without auxiliary classifiers
  Precision precision = Precision::kFp32;
  std::unique_ptr<RecordedChoices> choices;  // of engines on a device: the checkpoint's, then the machine's
  std::unique_ptr<Engine> crops, dense;  // dense: only where it differs from crops
  // Either stands for both: their networks take the same images.
  const Engine& engine() const { return *(crops ? crops : dense); }
  TestEngines engines() const { return {crops.get(), dense ? dense.get() : crops.get()}; }
};

// Collective: rank 0 finds, reads and verifies, every rank gets the same; errors are the same everywhere. kInvalidInput when the
// store's classes or channels are not the checkpoint's, when a tensor does not fit the network, and for scales below the crop;
// kNumeric names a weight that is not finite. When settings.scales is empty it becomes the checkpoint's validation scale.
// `progress` counts the layers that a pass has run, for a watcher; `watch` hears of choosing algorithms, and may end it. Both outlive the
// engines.
Result<TestedModel> LoadTestedModel(FileSystem& files, Collective& collective, const std::string& path, const Manifest& store,
                                    TestSettings& settings, int threads, const Compute& compute,
                                    std::atomic<int64_t>* progress, StartWatch* watch);

}  // namespace plateau
