// What the command line may draw with: colours, wide characters, the width of the terminal, tables and bars.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace plateau {

enum class Colour { kPlain, kBold, kDim, kRed, kGreen, kYellow, kBlue, kCyan };

// What a stream can show. A value; the default shows plain ASCII.
struct Style {
  bool terminal = false;  // lines may be redrawn
  bool colour = false;    // never when NO_COLOR is set or TERM is dumb
  bool unicode = false;   // the locale says UTF-8
  int columns = 100;

  std::string Paint(Colour colour_name, std::string_view text) const;
};

// Looks at file descriptor `fd` and the environment (NO_COLOR, TERM, LC_ALL, LC_CTYPE, LANG).
Style DetectStyle(int fd);
// Whether a stream gets colours; `term` and `no_colour` are the variables TERM and NO_COLOR, null where not set.
bool WantsColour(bool terminal, const char* term, const char* no_colour);

// Rows under a header, columns as wide as their widest cell, the last one unpadded. Cells may hold colours.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : header_(std::move(header)) {}
  void Add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  void RightAlign(std::vector<size_t> columns) { right_ = std::move(columns); }
  // One line a row, each ended by a newline, cut at style.columns on a terminal.
  std::string Render(const Style& style) const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
  std::vector<size_t> right_;
};

// Characters that a terminal shows of `text`: UTF-8 code points, escape sequences not counted.
size_t VisibleWidth(std::string_view text);
// The first `columns` visible characters; colours are closed at the cut.
std::string CutVisible(std::string_view text, size_t columns);
// "[########........]" for a share in 0..1 (clamped), `cells` inside the brackets.
std::string Bar(const Style& style, double share, int cells);
// One character a value, low to high; empty where the style is not unicode. Keeps the newest `cells` values.
std::string Sparkline(const Style& style, const std::vector<double>& values, size_t cells);

std::string Grouped(int64_t value);                  // 12,345
std::string Figure(double value);                    // 0.01, 1e-05, 2.1034: at most five significant digits
std::string Percent(double share);                   // 45.20%
std::string HourMinuteSecond(std::string_view utc);  // "06:03:41" of "2026-11-22T06:03:41.123Z", else the text itself
int64_t ParseUtcMs(std::string_view utc);            // Unix milliseconds of such a text, -1 when it is none

}  // namespace plateau
