// The web page's files, embedded in the binary at build time.
#pragma once

#include <span>
#include <string_view>

namespace plateau {

struct WebAsset {
  std::string_view path;          // "index.html"; served at "/" and "/index.html"
  std::string_view content_type;
  std::string_view body;          // static storage
};

std::span<const WebAsset> WebAssets();

}  // namespace plateau
