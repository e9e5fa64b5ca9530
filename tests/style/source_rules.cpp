// A small scanner of C++: comments and literals blanked out, braces matched.
#include "tests/style/source_rules.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <utility>

#include <fmt/format.h>

namespace plateau::style {
namespace {

// Which folders a folder may include, besides itself. The longest matching prefix counts.
const std::map<std::string, std::vector<std::string>> kMayInclude{
    {"common", {}},
    {"dataset", {"common"}},
    {"worker", {"common", "dataset"}},
    {"worker/model", {"common"}},
    {"worker/nn", {"common", "worker/model", "worker/collective"}},
    {"worker/backend", {"common", "worker/model", "worker/nn", "worker/collective"}},
    {"worker/collective", {"common"}},
    {"worker/train", {"common", "dataset", "worker/model", "worker/nn", "worker/backend", "worker/collective"}},
    {"worker/ingest", {"common", "dataset"}},
    {"worker/doctor", {"common", "worker/model", "worker/nn", "worker/backend", "worker/collective"}},
    {"worker/evaluate", {"common", "dataset", "worker/model", "worker/nn", "worker/backend", "worker/collective"}},
    {"coordinator", {"common", "dataset"}},
    {"coordinator/job", {"common"}},
    {"coordinator/node", {"common", "coordinator/job"}},
    {"coordinator/ingest", {"common", "dataset", "coordinator/job"}},
    {"coordinator/pipeline", {"common", "coordinator/job"}},
    {"coordinator/schedule", {"common", "coordinator/job"}},
    {"coordinator/store", {"common", "coordinator/job", "coordinator/node"}},
    {"coordinator/launch", {"common", "coordinator/job"}},
    {"coordinator/http", {"common", "dataset", "coordinator/job", "coordinator/node", "coordinator/ingest", "coordinator/pipeline", "coordinator/web"}},
    {"coordinator/link", {"common", "coordinator/job", "coordinator/http"}},  // one API behind both doors
    {"coordinator/web", {}},
    {"coordinator/report", {"common"}},
    {"coordinator/cli", {"common", "dataset", "coordinator/link", "coordinator/report"}},  // the frames of requests over ZeroMQ
};

// Include prefix of a library -> the only rooms that may use it.
const std::vector<std::pair<std::string, std::vector<std::string>>> kRooms{
    {"rocksdb/", {"dataset/shard_", "coordinator/store/"}},
    {"dnnl", {"worker/backend/cpu/"}},
    {"oneapi/", {"worker/backend/cpu/"}},
    {"cuda", {"worker/backend/cuda/"}},
    {"cudnn", {"worker/backend/cuda/"}},
    {"cublas", {"worker/backend/cuda/"}},
    {"nccl", {"worker/collective/nccl", "worker/backend/cuda/"}},
    {"mpi.h", {"worker/collective/"}},
    {"boost/", {"coordinator/http/", "coordinator/cli/http_client.cpp"}},
    {"zmq", {"coordinator/link/", "coordinator/cli/zmq_client.cpp", "worker/train/", "worker/ingest/"}},
    {"yaml-cpp/", {"common/"}},
    {"spdlog/", {"common/log.cpp"}},
    {"archive", {"dataset/"}},
};

bool StartsWith(const std::string& text, const std::string& front) { return text.rfind(front, 0) == 0; }
bool Within(const std::string& path, const std::string& folder) { return StartsWith(path, folder + "/"); }

// The rule of the longest folder that holds `path`, empty when none does.
std::string RuleOf(const std::string& path) {
  std::string best;
  for (const auto& [folder, allowed] : kMayInclude)
    if (Within(path, folder) && folder.size() > best.size()) best = folder;
  return best;
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines(1);
  for (const char c : text) {
    if (c == '\n')
      lines.emplace_back();
    else
      lines.back() += c;
  }
  return lines;
}

std::vector<std::pair<int, std::string>> Includes(const std::string& text, char open, char close) {
  std::vector<std::pair<int, std::string>> found;
  const auto lines = Lines(text);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (!StartsWith(lines[i], std::string("#include ") + open)) continue;
    const size_t end = lines[i].find(close, 10);
    found.emplace_back(static_cast<int>(i) + 1, lines[i].substr(10, end - 10));
  }
  return found;
}

// Where the comment or literal that begins at `at` ends (one past it); `at` when none begins there.
size_t SkipOpaque(const std::string& text, size_t at) {
  const auto after = [&](size_t found, size_t length) { return found == std::string::npos ? text.size() : found + length; };
  if (text.compare(at, 2, "//") == 0) return after(text.find('\n', at), 0);
  if (text.compare(at, 2, "/*") == 0) return after(text.find("*/", at + 2), 2);
  if (text.compare(at, 2, "R\"") == 0) {
    const size_t open = text.find('(', at);
    const std::string close = ")" + text.substr(at + 2, open - at - 2) + "\"";
    return after(text.find(close, open), close.size());
  }
  const bool digit_separator = text[at] == '\'' && at > 0 && std::isalnum(static_cast<unsigned char>(text[at - 1]));
  if (text[at] != '"' && (text[at] != '\'' || digit_separator)) return at;
  size_t end = at + 1;
  while (end < text.size() && text[end] != text[at]) end += text[end] == '\\' ? 2 : 1;
  return std::min(end + 1, text.size());
}

// The text with comments, literals and preprocessor lines turned into spaces; line breaks stay.
std::string Blanked(const std::string& text) {
  std::string out = text;
  const auto blank = [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i)
      if (out[i] != '\n') out[i] = ' ';
  };
  bool line_start = true;
  for (size_t at = 0; at < text.size();) {
    size_t end = SkipOpaque(text, at);
    if (line_start && text[at] == '#') {
      end = text.find('\n', at);
      while (end != std::string::npos && text[end - 1] == '\\') end = text.find('\n', end + 1);
      end = std::min(end, text.size());
    }
    if (end > at) {
      blank(at, end);
      at = end;
      continue;
    }
    if (text[at] == '\n')
      line_start = true;
    else if (text[at] != ' ')
      line_start = false;
    ++at;
  }
  return out;
}

size_t MatchingBrace(const std::string& text, size_t open) {
  int depth = 0;
  for (size_t at = open; at < text.size(); ++at) {
    if (text[at] == '{') ++depth;
    if (text[at] == '}' && --depth == 0) return at;
  }
  return text.size();
}

int LineOf(const std::string& text, size_t at) {
  return 1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
}

// Namespaces and types are entered; anything else with a brace is one body.
bool OpensScope(const std::string& header) {
  static const std::regex kScope(R"((^|[\s>])(namespace|class|struct|union|extern)\b)");
  static const std::regex kCall(R"(\)\s*(const|noexcept|override|final|\s|->.*|:[^:].*)*$)");
  return std::regex_search(header, kScope) && !std::regex_search(header, kCall);
}

bool LooksLikeFunction(const std::string& header) {
  const size_t paren = header.find('(');
  const size_t equals = header.find('=');
  return paren != std::string::npos &&
         (equals == std::string::npos || paren < equals || header.find("operator") != std::string::npos);
}

std::string FunctionName(const std::string& header) {
  const size_t paren = header.find('(');
  size_t begin = paren;
  while (begin > 0 && (std::isalnum(static_cast<unsigned char>(header[begin - 1])) ||
                       std::string("_:~").find(header[begin - 1]) != std::string::npos))
    --begin;
  return header.substr(begin, paren - begin);
}

bool Listed(const std::string& path) {
  const bool source = path.ends_with(".h") || path.ends_with(".cpp") || path.ends_with(".cu") || path.ends_with(".cuh");
  return source && (Within(path, "common") || Within(path, "dataset") || Within(path, "worker") || Within(path, "coordinator") ||
                    Within(path, "tests"));
}

}  // namespace

std::vector<SourceFile> ReadSources(const std::string& top) {
  std::vector<SourceFile> sources;
  for (const char* room : {"common", "dataset", "worker", "coordinator", "tests"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(top + "/" + room)) {
      const std::string path = entry.path().lexically_relative(top).string();
      if (!entry.is_regular_file() || !Listed(path)) continue;
      std::ifstream file(entry.path());
      sources.push_back({path, std::string(std::istreambuf_iterator<char>(file), {})});
    }
  }
  std::sort(sources.begin(), sources.end(), [](const SourceFile& a, const SourceFile& b) { return a.path < b.path; });
  return sources;
}

std::vector<std::string> CheckIncludeDirection(const SourceFile& file) {
  const std::string rule = RuleOf(file.path);
  if (rule.empty()) return {};  // tests may include everything
  std::vector<std::string> findings;
  for (const auto& [line, target] : Includes(file.text, '"', '"')) {
    const std::string target_rule = RuleOf(target);
    const auto& allowed = kMayInclude.at(rule);
    const auto holds = [&](const std::string& folder) { return target_rule == folder || Within(target, folder); };
    // The files directly in worker/ and coordinator/ put the parts together.
    const bool top = rule.find('/') == std::string::npos && Within(target, rule);
    const bool fine = top || target_rule == rule || std::any_of(allowed.begin(), allowed.end(), holds);
    if (!fine) findings.push_back(fmt::format("{}:{}: {} may not include {}", file.path, line, rule, target));
  }
  return findings;
}

std::vector<std::string> CheckDeviceHeaders(const SourceFile& file) {
  std::vector<std::string> findings;
  if (Within(file.path, "tests")) return findings;
  for (const auto& [line, header] : Includes(file.text, '<', '>')) {
    for (const auto& [front, rooms] : kRooms) {
      if (!StartsWith(header, front)) continue;
      const bool inside =
          std::any_of(rooms.begin(), rooms.end(), [&](const std::string& room) { return StartsWith(file.path, room); });
      if (!inside) findings.push_back(fmt::format("{}:{}: <{}> belongs in {}", file.path, line, header, fmt::join(rooms, ", ")));
    }
  }
  return findings;
}

std::vector<std::string> CheckFunctionLength(const SourceFile& file, int limit) {
  std::vector<std::string> findings;
  const std::string text = Blanked(file.text);
  size_t header_begin = 0;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] == ';' || text[at] == '}') header_begin = at + 1;
    if (text[at] != '{') continue;
    const std::string header = text.substr(header_begin, at - header_begin);
    header_begin = at + 1;
    if (OpensScope(header)) continue;
    const size_t end = MatchingBrace(text, at);
    const int lines = LineOf(text, end) - LineOf(text, at) + 1;
    if (LooksLikeFunction(header) && lines >= limit)
      findings.push_back(
          fmt::format("{}:{}: {} has {} lines, the limit is {}", file.path, LineOf(text, at), FunctionName(header), lines, limit));
    at = end;
    header_begin = at + 1;
  }
  return findings;
}

std::vector<std::string> CheckOpening(const SourceFile& file) {
  const auto lines = Lines(file.text);
  std::string comment;
  for (size_t i = 0; i < lines.size() && StartsWith(lines[i], "//"); ++i) comment += lines[i].substr(2);
  const bool sentence = comment.size() > 12 && comment[0] == ' ' && comment.find(" ", 1) != std::string::npos;
  if (sentence) return {};
  return {fmt::format("{}:1: the file does not open with a sentence that says what it is for", file.path)};
}

std::vector<std::string> CheckLeftovers(const SourceFile& file) {
  std::vector<std::string> findings;
  static const std::regex kNote(R"(\b(TO)(DO)\b|\b(FIX)(ME)\b|\bX(XX)\b)");
  static const std::regex kConditional(R"(^\s*#\s*(if|ifdef|ifndef|elif)\b)");
  const auto lines = Lines(file.text);
  for (size_t i = 0; i < lines.size(); ++i) {
    const bool rule_text = StartsWith(file.path, "tests/style/");
    if (!rule_text && std::regex_search(lines[i], kNote))
      findings.push_back(fmt::format("{}:{}: a note left over: {}", file.path, i + 1, lines[i]));
    if (!rule_text && std::regex_search(lines[i], kConditional))
      findings.push_back(fmt::format("{}:{}: conditional compilation; CMake links the real file or its _absent twin: {}", file.path,
                                     i + 1, lines[i]));
  }
  return findings;
}

}  // namespace plateau::style
