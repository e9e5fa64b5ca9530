// Finding the coordinator and reporting errors.
#include "coordinator/cli/context.h"

#include <cstdio>
#include <cstdlib>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "coordinator/cli/local_state.h"

namespace plateau {

std::string CliContext::StateFolder() const { return state_folder.empty() ? LocalStateFolder() : state_folder; }

Result<ApiClient> CliContext::Client() const {
  std::string url = endpoint_url;
  const char* from_environment = std::getenv("PLATEAU_ENDPOINT");
  // --state names one coordinator; it goes before a variable that names another.
  if (url.empty() && state_folder.empty() && from_environment != nullptr) url = from_environment;
  if (url.empty()) {
    const auto local = ReadEndpoints(StateFolder());
    url = local ? local->http : "http://127.0.0.1:7080";
  }
  PLATEAU_ASSIGN(Endpoint endpoint, ParseEndpoint(url));
  return ApiClient(std::move(endpoint));
}

void CliContext::Report(const Error& error) {
  fmt::print(stderr, "{} {}\n", err.Paint(Colour::kRed, "plateau:"), error.message);
  if (json) PrintJson({{"error", {{"code", ErrorCodeName(error.code)}, {"message", error.message}}}});
  exit_code = ExitCode(error.code);
}

void CliContext::PrintJson(const nlohmann::ordered_json& value) const {
  fmt::print("{}\n", value.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  std::fflush(stdout);
}

void AddConnectionOptions(CLI::App& command, CliContext& context) {
  command.add_option("--endpoint", context.endpoint_url,
                     "Coordinator's address, such as http://127.0.0.1:7080, or tcp://127.0.0.1:7082 for ZeroMQ (default: "
                     "$PLATEAU_ENDPOINT, "
                     "else the coordinator of the state folder)");
  command.add_option("--state", context.state_folder,
                     "State folder of a local coordinator (default: $PLATEAU_STATE or ~/.local/state/plateau)");
}

void AddJsonFlag(CLI::App& command, CliContext& context) { command.add_flag("--json", context.json, "Print JSON for programs"); }

}  // namespace plateau
