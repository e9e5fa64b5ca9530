// A report as text, Markdown, JSON and one self-contained page.
#pragma once

#include <string>

#include "coordinator/report/report.h"

namespace plateau {

enum class ReportFormat { kText, kMarkdown };

std::string RenderReport(const Report& report, ReportFormat format);
// {"pipeline","state","scale_factor","tables":[{"table","title","rows":[...]}],"training":[...],"claims":[...]}; errors in per cent, null where there is none.
std::string ReportJson(const Report& report);
// Tables, verdicts, and the curves as SVG; it loads nothing.
std::string ReportHtml(const Report& report);

// What the three table renderings share: a header and rows of cells.
struct CellTable {
  std::string title;
  std::vector<std::string> header;
  size_t texts = 1;  // the first columns are texts, the others figures
  std::vector<std::vector<std::string>> rows;
};
std::vector<CellTable> CellTables(const Report& report);
std::string DifferenceText(const PairedDifference& difference);  // "+1.20 points [+0.31, +2.09]"

}  // namespace plateau
