// Putting measured results into the rows of the published tables.
#include "coordinator/report/report.h"

#include <algorithm>

namespace plateau {
namespace {

using Row = std::pair<int, std::vector<std::string>>;

double Percent(int64_t correct, int64_t images) { return 100.0 * static_cast<double>(images - correct) / static_cast<double>(images); }

const TestResult* Filling(const ReportInput& input, const Row& row) {
  const auto fills = [&row](const TestResult& test) { return std::find(test.rows.begin(), test.rows.end(), row) != test.rows.end(); };
  const auto found = std::find_if(input.tests.begin(), input.tests.end(), fills);
  return found == input.tests.end() ? nullptr : &*found;
}

void Fill(const ReportInput& input, const TestResult& test, ReportRow& row) {
  const auto model = std::find_if(input.models.begin(), input.models.end(), [&](const TrainedModel& one) { return one.job == test.model; });
  if (model != input.models.end()) {
    row.model = &*model;
    row.speed_up = SpeedUp(input, *model);
  }
  row.note = test.missing;
  if (test.images == 0) return;
  row.top1 = Percent(test.correct1, test.images);
  row.top5 = Percent(test.correct5, test.images);
  row.images = test.images;
  if (test.seconds > 0) row.test_s = test.seconds;
}

// Rows that the pipeline fills and the paper does not have.
void AddOwnRows(const ReportInput& input, ReportTable& table) {
  for (const auto& test : input.tests) {
    for (const auto& [number, key] : test.rows) {
      const bool known = std::any_of(table.rows.begin(), table.rows.end(), [&](const ReportRow& row) { return row.published.key == key; });
      if (number != table.number || known) continue;
      ReportRow row{.published = {.key = key}, .is_published = false};
      row.published.key.resize(table.key_columns.size());
      Fill(input, test, row);
      table.rows.push_back(std::move(row));
    }
  }
}

}  // namespace

std::optional<double> SpeedUp(const ReportInput& input, const TrainedModel& model) {
  if (model.baseline || model.images_per_s <= 0) return std::nullopt;
  for (const auto& one : input.models)
    if (one.baseline && one.network == model.network && one.images_per_s > 0) return model.images_per_s / one.images_per_s;
  return std::nullopt;
}

Report MakeReport(const ReportInput& input) {
  Report report{&input, {}, {}};
  for (const auto& published : PublishedTables()) {
    ReportTable table{published.number, published.title, published.key_columns, {}};
    for (const auto& one : published.rows) {
      ReportRow row{.published = one};
      if (const TestResult* test = Filling(input, {published.number, one.key}); test != nullptr) Fill(input, *test, row);
      table.rows.push_back(std::move(row));
    }
    AddOwnRows(input, table);
    report.tables.push_back(std::move(table));
  }
  report.claims = JudgeClaims([&input](int table, const std::vector<std::string>& key) -> const Correctness* {
    const TestResult* test = Filling(input, {table, key});
    const auto found = test == nullptr ? input.correctness.end() : input.correctness.find(test->name);
    return found == input.correctness.end() ? nullptr : &found->second;
  });
  return report;
}

}  // namespace plateau
