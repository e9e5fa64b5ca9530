// Passes over the validation set by all ranks, counted exactly.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "common/messages.h"
#include "dataset/pipeline.h"
#include "worker/collective/collective.h"
#include "worker/nn/scorer.h"

namespace plateau {

struct ValidateOptions {
  std::string split = "val";
  int scale = 256;  // shortest side; the centre crop of the preprocessing's size is evaluated
  int decode_threads = 1;
  std::atomic<int64_t>* progress = nullptr;  // counts images decoded
};

// Passes over the validation set, with one pipeline for all of them. Training thread only.
class Validator {
 public:
  // Borrows all but the options and the preprocessing; `plan` is one of the engine's. Throws Failure when the device has no room for
  // its batches.
  Validator(Engine& engine, Plan& plan, const StoreReader& store, const Preprocessing& preprocessing, ValidateOptions options,
            Collective& collective);

  // Collective. Every rank evaluates its part with the plan's fixed batch, padded rows weigh nothing. The report's counts are sums
  // over ranks and add up to the set's size; number, step and epoch are left to the caller. Where a device computes, a batch is copied
  // while it works on the one before. The first images of the next pass are decoded behind the caller's back. Throws Failure when a
  // record cannot be read or the counts do not add up.
  ValidationReport Run();

 private:
  void Start();
  LossSums Pass();

  const int rows_;     // of each batch of this rank
  const bool pixels_;  // the engine takes bytes
  const std::unique_ptr<Scorer> scorer_;
  const StoreReader& store_;
  Preprocessing preprocessing_;
  ValidateOptions options_;
  Collective& collective_;
  std::unique_ptr<Pipeline> pipeline_;  // from the first pass on
};

}  // namespace plateau
