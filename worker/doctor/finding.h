// What an examination says: one line a thing, and whether it is right.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace plateau {

// kNote: not there, or slow, and training works without it. kBad: it is there and fails.
enum class Health { kInfo, kGood, kNote, kBad };

struct Finding {
  std::string section;  // "CUDA"
  std::string name;     // "driver"
  Health health = Health::kInfo;
  std::string text;
};

// One rank's examination.
struct Examination {
  int rank = 0;
  std::string host;
  int pid = 0;
  std::vector<Finding> findings;
  bool good() const;  // nothing is kBad
};

// {"ok", "ranks": [{"rank", "host", "pid", "ok", "findings": [{"section", "name", "health", "text"}]}]}; health is "info", "good",
// "note" or "bad".
nlohmann::ordered_json ExaminationsToJson(const std::vector<Examination>& ranks);
nlohmann::ordered_json ExaminationToJson(const Examination& rank);
Examination ExaminationFromJson(const nlohmann::ordered_json& json);

// Rank 0 in full, by section; of the others their device and what is not right with them, ranks of one host that say the same together and
// without what rank 0 says of that host already. `colour`: escape sequences.
std::string ExaminationsText(const std::vector<Examination>& ranks, bool colour);

}  // namespace plateau
