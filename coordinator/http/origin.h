// Which web pages may speak to the coordinator: its own, and those of origins it was told of. Pure.
#pragma once

#include <string>
#include <vector>

namespace plateau {

// A browser sends `Origin` with what a page's script asks for; other clients send none, and are not asked here. True when `origin`
// is "http://" + `host` (the request's Host header, as sent), and that host is an address, "localhost" or this machine's
// `host_name` (also with a domain behind it): any other name may be one that a strange page's own name server points here. Or when
// `origin` is one of `allowed`.
bool IsOwnOrigin(const std::string& origin, const std::string& host, const std::string& host_name,
                 const std::vector<std::string>& allowed);

}  // namespace plateau
