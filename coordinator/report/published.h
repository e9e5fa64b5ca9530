// The figures that Simonyan & Zisserman publish (arXiv 1409.1556 v6, Tables 3 to 7), beside which a report puts its own.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace plateau {

// Errors in per cent. The key's cells are the row's first columns: {"D", "[256;512]", "384"}, {"E", "multi-crop"}, {"D+E, multi-crop"}.
struct PublishedRow {
  std::vector<std::string> key;
  std::optional<double> top1, top5;  // of the validation set
  std::optional<double> test_top5;   // of the test set (Tables 6 and 7)
  bool merged = false;               // Table 7 gives one top-5 figure for validation and test
};

struct PublishedTable {
  int number = 0;
  std::string title;
  std::vector<std::string> key_columns;
  std::vector<PublishedRow> rows;
};

// Tables 3, 4, 5, 6 and 7.
const std::vector<PublishedTable>& PublishedTables();

}  // namespace plateau
