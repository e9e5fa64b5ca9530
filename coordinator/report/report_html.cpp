// A report as one page: tables, verdicts, and the curves drawn as SVG.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "coordinator/report/render.h"

namespace plateau {
namespace {

constexpr const char* kStyle =
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#222}h1{font-size:1.5rem}h2{font-size:1.15rem;"
    "margin-top:2rem}.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.2rem .6rem;"
    "text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}th{font-size:.75rem;color:#555}.t{text-align:left}.holds{color:#060}"
    ".not{color:#a00}.quiet{color:#666}svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#555}";
constexpr const char* kColours[] = {"#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b",
                                    "#e377c2", "#7f7f7f", "#bcbd22", "#17becf", "#393b79", "#637939"};
constexpr double kWidth = 1000, kHeight = 340, kLeft = 55, kRight = 190, kTop = 15, kBottom = 35;

std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '&') out += "&amp;";
    else out += c;
  }
  return out;
}

struct Line {
  std::string name;
  const std::vector<CurvePoint>* points;
};

// Axes from 0, so that curves of different pipelines can be compared by eye.
std::string Chart(const std::string& title, const std::vector<Line>& lines, double factor) {
  double most_x = 0, most_y = 0;
  for (const auto& line : lines)
    for (const auto& point : *line.points) {
      most_x = std::max(most_x, point.epoch);
      if (std::isfinite(point.value)) most_y = std::max(most_y, point.value * factor);
    }
  if (most_x <= 0 || most_y <= 0) return {};
  const auto x = [&](double epoch) { return kLeft + epoch / most_x * (kWidth - kLeft - kRight); };
  const auto y = [&](double value) { return kHeight - kBottom - value / most_y * (kHeight - kTop - kBottom); };
  std::string svg = fmt::format("<h2>{}</h2><svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">", Escaped(title), kWidth, kHeight, Escaped(title));
  for (int i = 0; i <= 4; ++i) {
    const double value = most_y * i / 4, epoch = most_x * i / 4;
    svg += fmt::format("<line x1=\"{}\" y1=\"{:.1f}\" x2=\"{}\" y2=\"{:.1f}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:.3g}</text>",
                       kLeft, y(value), kWidth - kRight, y(value), kLeft - 6, y(value) + 4, value);
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:.3g}</text>", x(epoch), kHeight - 15, epoch);
  }
  svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">epoch</text>", kWidth - kRight, kHeight - 2);
  for (size_t i = 0; i < lines.size(); ++i) {
    const char* colour = kColours[i % std::size(kColours)];
    std::string points;
    for (const auto& point : *lines[i].points)
      if (std::isfinite(point.value)) points += fmt::format("{:.1f},{:.1f} ", x(point.epoch), y(point.value * factor));
    svg += fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" points=\"{}\"><title>{}</title></polyline>", colour, points,
                       Escaped(lines[i].name));
    const double row = kTop + 8 + 16 * static_cast<double>(i);
    svg += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"14\" height=\"3\" fill=\"{}\"/><text x=\"{}\" y=\"{}\">{}</text>", kWidth - kRight + 12, row - 5,
                       colour, kWidth - kRight + 32, row, Escaped(lines[i].name));
  }
  return svg + "</svg>\n";
}

std::string HtmlTable(const CellTable& table) {
  std::string out = "<h2>" + Escaped(table.title) + "</h2><div class=\"scroll\"><table><tr>";
  for (size_t i = 0; i < table.header.size(); ++i)
    out += fmt::format("<th{}>{}</th>", i < table.texts ? " class=\"t\"" : "", Escaped(table.header[i]));
  out += "</tr>\n";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (size_t i = 0; i < row.size(); ++i) {
      const char* colour = row[i] == "holds" ? " holds" : row[i] == "does not hold" ? " not" : "";
      out += fmt::format("<td class=\"{}{}\">{}</td>", i < table.texts ? "t" : "", colour, Escaped(row[i]));
    }
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

}  // namespace

std::string ReportHtml(const Report& report) {
  const ReportInput& input = *report.input;
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{0}</title>"
      "<style>{1}</style></head><body>\n<h1>{0}</h1><p class=\"quiet\">{2}, scale factor {3:g}. Errors in per cent of the validation split, measured "
      "beside published (arXiv 1409.1556); speed-up over one worker of the same network.{4}</p>\n",
      Escaped(input.pipeline), kStyle, Escaped(input.state), input.scale_factor,
      input.scale_factor == 1 ? "" : " S and Q are the paper's: here they, and the crop of 224, are multiplied by the scale factor.");
  for (const auto& table : CellTables(report)) out += HtmlTable(table);
  for (const auto& claim : report.claims) {
    out += fmt::format("<p class=\"quiet\">{}: {}{}</p>\n", Escaped(claim.claim), Escaped(claim.rule),
                       claim.missing.empty() ? "" : "; " + Escaped(claim.missing));
  }
  for (const auto& test : input.tests)
    if (!test.missing.empty()) out += fmt::format("<p class=\"quiet\">{}: {}</p>\n", Escaped(test.name), Escaped(test.missing));
  std::vector<Line> errors, losses;
  for (const auto& model : input.models) {
    if (model.baseline) continue;
    errors.push_back({model.job, &model.error});
    losses.push_back({model.job, &model.loss});
  }
  out += Chart("Validation top-1 error, per cent", errors, 100);
  out += Chart("Training loss", losses, 1);
  return out + "</body></html>\n";
}

}  // namespace plateau
