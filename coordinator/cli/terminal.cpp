// Escape sequences, visible widths and number formats.
#include "coordinator/cli/terminal.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>

namespace plateau {
namespace {

const char* Code(Colour colour) {
  switch (colour) {
    case Colour::kBold: return "1";
    case Colour::kDim: return "2";
    case Colour::kRed: return "31";
    case Colour::kGreen: return "32";
    case Colour::kYellow: return "33";
    case Colour::kBlue: return "34";
    case Colour::kCyan: return "36";
    case Colour::kPlain: break;
  }
  return "0";
}

bool LocaleIsUtf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == 0) continue;
    const std::string_view text(value);
    return text.find("UTF-8") != text.npos || text.find("utf8") != text.npos || text.find("UTF8") != text.npos;
  }
  return false;
}

// Length of the escape sequence at `at`, 0 when there is none.
size_t EscapeLength(std::string_view text, size_t at) {
  if (text[at] != '\033') return 0;
  const size_t end = text.find('m', at);
  return end == std::string_view::npos ? text.size() - at : end - at + 1;
}

bool ContinuesCharacter(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

}  // namespace

std::string Style::Paint(Colour name, std::string_view text) const {
  if (!colour || name == Colour::kPlain || text.empty()) return std::string(text);
  return fmt::format("\033[{}m{}\033[0m", Code(name), text);
}

Style DetectStyle(int fd) {
  Style style;
  style.terminal = ::isatty(fd) != 0;
  style.colour = WantsColour(style.terminal, std::getenv("TERM"), std::getenv("NO_COLOR"));
  style.unicode = style.terminal && LocaleIsUtf8();
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40) style.columns = size.ws_col;
  return style;
}

bool WantsColour(bool terminal, const char* term, const char* no_colour) {
  const bool dumb = term == nullptr || std::string_view(term) == "dumb";
  return terminal && !dumb && (no_colour == nullptr || *no_colour == 0);
}

size_t VisibleWidth(std::string_view text) {
  size_t width = 0;
  for (size_t at = 0; at < text.size();) {
    if (const size_t escape = EscapeLength(text, at)) {
      at += escape;
      continue;
    }
    width += ContinuesCharacter(text[at]) ? 0 : 1;
    ++at;
  }
  return width;
}

std::string CutVisible(std::string_view text, size_t columns) {
  if (VisibleWidth(text) <= columns) return std::string(text);
  std::string out;
  size_t width = 0;
  bool coloured = false;
  for (size_t at = 0; at < text.size();) {
    if (const size_t escape = EscapeLength(text, at)) {
      out += text.substr(at, escape);
      coloured = true;
      at += escape;
      continue;
    }
    if (!ContinuesCharacter(text[at]) && ++width > columns) break;
    out += text[at++];
  }
  return coloured ? out + "\033[0m" : out;
}

std::string Table::Render(const Style& style) const {
  std::vector<size_t> widths(header_.size());
  for (size_t column = 0; column < header_.size(); ++column) {
    widths[column] = VisibleWidth(header_[column]);
    for (const auto& row : rows_) widths[column] = std::max(widths[column], VisibleWidth(row[column]));
  }
  std::string out;
  const auto add_line = [&](const std::vector<std::string>& cells, bool is_header) {
    std::string line;
    for (size_t column = 0; column < cells.size(); ++column) {
      const std::string pad(widths[column] - VisibleWidth(cells[column]), ' ');
      const bool right = std::find(right_.begin(), right_.end(), column) != right_.end();
      const std::string cell = is_header ? style.Paint(Colour::kDim, cells[column]) : cells[column];
      if (right)
        line += pad + cell;
      else
        line += cell + (column + 1 < cells.size() ? pad : "");
      if (column + 1 < cells.size()) line += "  ";
    }
    out += (style.terminal ? CutVisible(line, static_cast<size_t>(style.columns)) : line) + "\n";
  };
  add_line(header_, true);
  for (const auto& row : rows_) add_line(row, false);
  return out;
}

std::string Bar(const Style& style, double share, int cells) {
  const double clamped = std::isfinite(share) ? std::clamp(share, 0.0, 1.0) : 0.0;
  const int filled = static_cast<int>(clamped * cells + 1e-9);
  std::string full, empty;
  for (int i = 0; i < filled; ++i) full += style.unicode ? "█" : "#";
  for (int i = filled; i < cells; ++i) empty += style.unicode ? "░" : ".";
  return style.unicode ? style.Paint(Colour::kCyan, full) + style.Paint(Colour::kDim, empty) : "[" + full + empty + "]";
}

std::string Sparkline(const Style& style, const std::vector<double>& values, size_t cells) {
  if (!style.unicode || values.empty()) return {};
  static constexpr const char* kLevels[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const size_t begin = values.size() > cells ? values.size() - cells : 0;
  const auto [low, high] = std::minmax_element(values.begin() + static_cast<std::ptrdiff_t>(begin), values.end());
  std::string out;
  for (size_t i = begin; i < values.size(); ++i) {
    const double share = *high > *low ? (values[i] - *low) / (*high - *low) : 0.0;
    out += kLevels[static_cast<size_t>(std::clamp(share * 7.999, 0.0, 7.0))];
  }
  return out;
}

std::string Grouped(int64_t value) {
  std::string digits = std::to_string(value);
  const int stop = value < 0 ? 1 : 0;
  for (int at = static_cast<int>(digits.size()) - 3; at > stop; at -= 3) digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

std::string Figure(double value) { return fmt::format("{:.5g}", value); }

std::string Percent(double share) { return fmt::format("{:.2f}%", share * 100); }

std::string HourMinuteSecond(std::string_view utc) { return std::string(ParseUtcMs(utc) >= 0 ? utc.substr(11, 8) : utc); }

int64_t ParseUtcMs(std::string_view utc) {
  std::tm time{};
  int milliseconds = 0;
  const std::string text(utc);
  const int read = std::sscanf(text.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ", &time.tm_year, &time.tm_mon, &time.tm_mday,
                               &time.tm_hour, &time.tm_min, &time.tm_sec, &milliseconds);
  if (read < 6) return -1;
  time.tm_year -= 1900;
  time.tm_mon -= 1;
  return static_cast<int64_t>(::timegm(&time)) * 1000 + milliseconds;
}

}  // namespace plateau
