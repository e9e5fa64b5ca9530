# Joins the parts of the page into OUTPUT/index.html and writes OUTPUT/assets.cpp that holds it.
file(READ ${SOURCE}/index.html page)
foreach(part style.css format.js charts.js app.js)
  file(READ ${SOURCE}/${part} text)
  string(FIND "${page}" "@${part}@" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "index.html has no @${part}@ for ${part}")
  endif()
  string(REPLACE "@${part}@" "${text}" page "${page}")
endforeach()
file(WRITE ${OUTPUT}/index.html "${page}")
# String literals are joined by the compiler; a piece stays below the 64 KiB every compiler must take.
set(literals "")
string(LENGTH "${page}" length)
set(at 0)
while(at LESS length)
  string(SUBSTRING "${page}" ${at} 8000 piece)
  string(APPEND literals "R\"__page__(${piece})__page__\"\n")
  math(EXPR at "${at} + 8000")
endwhile()
file(WRITE ${OUTPUT}/assets.cpp "// The page, embedded; made by coordinator/web/embed.cmake.
#include \"coordinator/web/assets.h\"

#include <array>

namespace plateau {
namespace {
constexpr std::string_view kIndex = ${literals};
constexpr std::array kAssets{WebAsset{\"index.html\", \"text/html; charset=utf-8\", kIndex}};
}  // namespace

std::span<const WebAsset> WebAssets() { return kAssets; }

}  // namespace plateau
")
