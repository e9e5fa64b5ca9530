// Targets taken apart, problems written down.
#include "coordinator/http/api_message.h"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace plateau {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool Decode(std::string_view text, bool plus_is_space, std::string& out) {
  out.clear();
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_space) {
      out += ' ';
    } else if (text[i] != '%') {
      out += text[i];
    } else {
      if (i + 2 >= text.size() || HexDigit(text[i + 1]) < 0 || HexDigit(text[i + 2]) < 0) return false;
      out += static_cast<char>(HexDigit(text[i + 1]) * 16 + HexDigit(text[i + 2]));
      i += 2;
    }
  }
  return true;
}

// Calls visit(piece) for each piece between separators; false as soon as a visit is false.
template <typename Visit>
bool ForEachPiece(std::string_view text, char separator, Visit visit) {
  while (!text.empty()) {
    const auto end = text.find(separator);
    if (!visit(text.substr(0, end))) return false;
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return true;
}

const char* Title(int status) {
  switch (status) {
    case 400: return "Bad request";
    case 403: return "Forbidden";
    case 404: return "Not found";
    case 405: return "Method not allowed";
    case 408: return "Request timeout";
    case 409: return "Conflict";
    case 413: return "Body too large";
    case 415: return "Unsupported media type";
    case 422: return "Job specification refused";
    case 431: return "Header too large";
    case 500: return "Internal error";
    case 503: return "Unavailable";
    default: return "Error";
  }
}

}  // namespace

bool ParseTarget(const std::string& target, std::vector<std::string>& path, std::map<std::string, std::string>& query) {
  if (target.empty() || target[0] != '/') return false;
  const std::string_view text(target);
  const auto question = text.find('?');
  const bool path_good =
      ForEachPiece(text.substr(1, question == std::string_view::npos ? question : question - 1), '/', [&](std::string_view piece) {
        std::string decoded;
        if (!Decode(piece, false, decoded)) return false;
        path.push_back(std::move(decoded));
        return true;
      });
  if (!path_good || question == std::string_view::npos) return path_good;
  return ForEachPiece(text.substr(question + 1), '&', [&](std::string_view piece) {
    const auto equals = piece.find('=');
    std::string name, value;
    if (!Decode(piece.substr(0, equals), true, name)) return false;
    if (equals != std::string_view::npos && !Decode(piece.substr(equals + 1), true, value)) return false;
    query[name] = value;
    return true;
  });
}

std::string LowerMediaType(std::string_view header) {
  std::string type(header.substr(0, header.find(';')));
  while (!type.empty() && type.back() == ' ') type.pop_back();
  std::transform(type.begin(), type.end(), type.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return type;
}

int JsonNestingDepth(std::string_view text) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string && c == '\\')
      ++i;
    else if (c == '"')
      in_string = !in_string;
    else if (!in_string && (c == '[' || c == '{'))
      deepest = std::max(deepest, ++depth);
    else if (!in_string && (c == ']' || c == '}'))
      --depth;
  }
  return deepest;
}

ApiResponse Problem(int status, const std::string& detail, const std::string& instance, const std::string& field) {
  nlohmann::ordered_json json{
      {"type", "about:blank"}, {"title", Title(status)}, {"status", status}, {"detail", detail}, {"instance", instance}};
  if (!field.empty()) json["field"] = field;
  ApiResponse response;
  response.status = status;
  response.content_type = "application/problem+json";
  response.body = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return response;
}

}  // namespace plateau
