// Fresh weights replaced by a trained model's, layer by layer: the paper's way to deep networks, and transfer learning.
#pragma once

#include <string>
#include <vector>

#include "common/job_spec.h"
#include "worker/train/trained_model.h"

namespace plateau {

// What a warm start did.
struct WarmStart {
  std::string checkpoint;                             // folder
  std::vector<std::pair<std::string, std::string>> taken;  // name and checksum (XXH3-64 of the canonical float32 bytes) of each tensor
  std::vector<std::string> skipped;                   // layers left at their fresh weights, with the reason
  bool folded = false;                                // another standard deviation was folded into the first layer's weights
};

// The layers that `wanted` names: themselves, all of `network` that have tensors, or, for vgg-first4-fc3, the first four convolutions
// of configuration A and the three fully connected layers (Simonyan & Zisserman, section 3.1). kInvalidInput names an unknown one
// and the nearest.
Result<std::vector<std::string>> WarmLayers(const Network& network, const std::vector<std::string>& wanted);

// Overwrites the weights of those layers of `store`, whose momenta are left as they are. The source's pixels may have been divided by
// another standard deviation: that is folded into the weights that read the input, exactly. Refused (kInvalidInput), with the remedy:
// a layer that the source lacks or whose shapes differ, unless from.on_mismatch is "skip"; another mean, when a layer that reads
// the input is taken, since padding is zero behind the mean and no bias can stand for it at the border ("skip" leaves that layer fresh);
// nothing left to take.
Result<WarmStart> TakeWeights(const TrainedModel& source, const JobSpec::InitFrom& from, const Network& network,
                              const Preprocessing& preprocessing, ParameterStore& store);

// For people and tests: <attempt folder>/warm_start.json (worker/CHECKPOINT.md).
std::string WarmStartJson(const WarmStart& start);

}  // namespace plateau
