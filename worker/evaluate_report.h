// What a test came to, as JSON and as text. Fields: worker/EVALUATE.md.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "dataset/manifest.h"
#include "worker/evaluate/counts.h"

namespace plateau {

// result.json without the counts: what was computed, on what.
struct TestSubject {
  std::vector<int> scales;
  std::string mode;
  bool flip = false;
  int crop = 0;
  double seconds = 0;
  std::string device;     // as rank 0's engine describes itself
  std::string precision;  // "bf16"
  int ranks = 1, threads = 1;
  std::string checkpoint, checkpoint_checksum;
  int64_t step = 0;
  std::string network;
  double width = 1;
  int classes = 0;
  std::string store, split, split_checksum;
  std::string posteriors, per_class;  // file names; empty: none
};

nlohmann::ordered_json ResultToJson(const TestSubject& subject, const TestCounts& counts);
// Counts with per_class.
nlohmann::ordered_json PerClassToJson(const TestCounts& counts, const std::vector<ClassInfo>& classes);

// "top-1 error 12.25% (351 of 400 right), top-5 error 0.50% (398 of 400)"
std::string ErrorsText(const TestCounts& counts);
std::string ResultText(const TestSubject& subject, const TestCounts& counts);
// A line a class, then the confusion matrix where it fits on a screen, else the most frequent confusions.
std::string PerClassText(const TestCounts& counts, const std::vector<ClassInfo>& classes);

}  // namespace plateau
