// The cells of every table, and their renderings as text and Markdown.
#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/text.h"
#include "coordinator/report/render.h"

namespace plateau {
namespace {

std::string Error(const std::optional<double>& percent, int digits) { return percent ? fmt::format("{:.{}f}", *percent, digits) : "-"; }

std::string Difference(const std::optional<double>& measured, const std::optional<double>& published) {
  return measured && published ? fmt::format("{:+.2f}", *measured - *published) : "-";
}

std::string PublishedTop5(const PublishedRow& row) { return Error(row.top5, 1) + (row.merged ? " (val/test)" : ""); }

CellTable CellsOf(const ReportTable& table) {
  const bool trained = table.number <= 5, tested = table.number >= 6;
  CellTable cells{fmt::format("Table {}: {}", table.number, table.title), table.key_columns, table.key_columns.size(), {}};
  for (const char* column : {"TOP-1", "PUBL.", "DIFF.", "TOP-5", "PUBL.", "DIFF."}) cells.header.emplace_back(column);
  if (tested) cells.header.emplace_back("PUBL. TEST TOP-5");
  if (trained)
    for (const char* column : {"EPOCHS", "DECAYS", "TRAINING", "TESTING", "SPEED-UP"}) cells.header.emplace_back(column);
  for (const auto& row : table.rows) {
    std::vector<std::string> line = row.published.key;
    line.insert(line.end(), {Error(row.top1, 2), Error(row.published.top1, 1), Difference(row.top1, row.published.top1), Error(row.top5, 2),
                             PublishedTop5(row.published), Difference(row.top5, row.published.top5)});
    if (tested) line.push_back(Error(row.published.test_top5, 1));
    if (trained) {
      const TrainedModel* model = row.model != nullptr && row.model->epochs > 0 ? row.model : nullptr;
      line.push_back(model == nullptr ? "-" : fmt::format("{:.1f}", model->epochs));
      line.push_back(model == nullptr ? "-" : std::to_string(model->decays));
      line.push_back(model == nullptr ? "-" : HumanDuration(model->seconds));
      line.push_back(row.test_s ? HumanDuration(*row.test_s) : "-");
      line.push_back(row.speed_up && model != nullptr ? fmt::format("{:.2f} ({} workers)", *row.speed_up, model->workers) : "-");
    }
    cells.rows.push_back(std::move(line));
  }
  return cells;
}

CellTable TrainingCells(const Report& report) {
  CellTable cells{"Training", {"JOB", "NETWORK", "STATE", "BEST ERROR", "EPOCHS", "DECAYS", "TIME", "IMAGES/S", "WORKERS", "SPEED-UP"}, 3, {}};
  for (const auto& model : report.input->models) {
    const auto speed_up = SpeedUp(*report.input, model);
    cells.rows.push_back({model.job, model.network, model.state, model.best_error ? fmt::format("{:.2f}", 100 * *model.best_error) : "-",
                          fmt::format("{:.1f}", model.epochs), std::to_string(model.decays), HumanDuration(model.seconds),
                          model.images_per_s > 0 ? fmt::format("{:.1f}", model.images_per_s) : "-", std::to_string(model.workers),
                          speed_up ? fmt::format("{:.2f}", *speed_up) : model.baseline ? "one worker" : "-"});
  }
  return cells;
}

CellTable ClaimCells(const Report& report) {
  CellTable cells{"The paper's claims", {"CLAIM", "VERDICT", "COMPARED", "IMPROVEMENT (95%)", "ONLY 1ST RIGHT", "ONLY 2ND RIGHT", "IMAGES"}, 4, {}};
  for (const auto& claim : report.claims) {
    cells.rows.push_back({claim.claim, VerdictName(claim.verdict), "", "", "", "", ""});
    for (const auto& part : claim.parts) {
      cells.rows.push_back({"  " + part.label, VerdictName(part.verdict), part.comparisons.size() > 1 ? "mean over the nets" : "",
                            part.together ? DifferenceText(*part.together) : "-", "", "", part.together ? std::to_string(part.together->images) : "-"});
      for (const auto& one : part.comparisons)
        cells.rows.push_back({"", "", one.first + " -> " + one.second, DifferenceText(one.difference), std::to_string(one.only_first),
                              std::to_string(one.only_second), std::to_string(one.difference.images)});
    }
  }
  return cells;
}

std::string TextTable(const CellTable& table) {
  std::vector<size_t> widths(table.header.size());
  const auto measure = [&](const std::vector<std::string>& cells) {
    for (size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], cells[i].size());
  };
  measure(table.header);
  for (const auto& row : table.rows) measure(row);
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (size_t i = 0; i < cells.size(); ++i)
      text += i < table.texts ? fmt::format("{:<{}}  ", cells[i], widths[i]) : fmt::format("{:>{}}  ", cells[i], widths[i]);
    text.erase(text.find_last_not_of(' ') + 1);
    return text + "\n";
  };
  std::string text = table.title + "\n" + line(table.header);
  for (const auto& row : table.rows) text += line(row);
  return text + "\n";
}

std::string MarkdownTable(const CellTable& table) {
  const auto line = [](const std::vector<std::string>& cells) { return fmt::format("| {} |\n", fmt::join(cells, " | ")); };
  std::vector<std::string> rule;
  for (size_t i = 0; i < table.header.size(); ++i) rule.emplace_back(i < table.texts ? "---" : "---:");
  std::string text = "## " + table.title + "\n\n" + line(table.header) + line(rule);
  for (const auto& row : table.rows) text += line(row);
  return text + "\n";
}

}  // namespace

std::string DifferenceText(const PairedDifference& d) { return fmt::format("{:+.2f} points [{:+.2f}, {:+.2f}]", d.points, d.low, d.high); }

std::vector<CellTable> CellTables(const Report& report) {
  std::vector<CellTable> all;
  for (const auto& table : report.tables) all.push_back(CellsOf(table));
  all.push_back(TrainingCells(report));
  all.push_back(ClaimCells(report));
  return all;
}

std::string RenderReport(const Report& report, ReportFormat format) {
  const bool markdown = format == ReportFormat::kMarkdown;
  const ReportInput& input = *report.input;
  std::string out = fmt::format("{}Pipeline {} ({}), scale factor {:g}\n", markdown ? "# " : "", input.pipeline, input.state, input.scale_factor);
  out += "\nErrors in per cent of the validation split, measured beside published (arXiv 1409.1556); speed-up over one worker of the same network.\n";
  if (input.scale_factor != 1) out += "S and Q are the paper's: here they, and the crop of 224, are multiplied by the scale factor.\n";
  out += "\n";
  for (const auto& table : CellTables(report)) out += markdown ? MarkdownTable(table) : TextTable(table);
  const char* bullet = markdown ? "- " : "  ";
  for (const auto& claim : report.claims) {
    out += fmt::format("{}{}: {} ({})\n", bullet, claim.claim, VerdictName(claim.verdict), claim.rule);
    if (!claim.missing.empty()) out += fmt::format("{}  {}\n", bullet, claim.missing);
  }
  for (const auto& test : input.tests)
    if (!test.missing.empty()) out += fmt::format("{}{}: {}\n", bullet, test.name, test.missing);
  return out;
}

}  // namespace plateau
