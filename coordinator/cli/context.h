// What every command of `plateau` needs: where the coordinator is, how to print, and the exit code to leave with.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "common/clock.h"
#include "common/error.h"
#include "coordinator/cli/api_client.h"
#include "coordinator/cli/terminal.h"

namespace CLI {
class App;
}

namespace plateau {

// Built by main and borrowed by every command; one thread.
struct CliContext {
  explicit CliContext(const Clock& the_clock) : clock(the_clock) {}

  const Clock& clock;
  std::string endpoint_url;    // --endpoint; empty: looked up
  std::string state_folder;    // --state; empty: $PLATEAU_STATE or ~/.local/state/plateau
  std::string program_folder;  // where this executable and its siblings lie
  bool json = false;           // --json of the command that runs
  Style out;                   // standard output
  Style err;                   // standard error
  int exit_code = 0;           // 0 done, 1 failure, 2 usage or input, 3 the job's loss was not finite

  std::string StateFolder() const;
  // --endpoint, else $PLATEAU_ENDPOINT, else endpoints.json of the state folder, else http://127.0.0.1:7080.
  Result<ApiClient> Client() const;
  // Prints "plateau: <message>" to stderr (with --json a problem object to stdout as well) and sets the exit code.
  void Report(const Error& error);
  // Prints a value as indented JSON to stdout.
  void PrintJson(const nlohmann::ordered_json& value) const;
};

// Adds --endpoint and --state to a command, both kept in the context.
void AddConnectionOptions(CLI::App& command, CliContext& context);
// Adds --json to a command.
void AddJsonFlag(CLI::App& command, CliContext& context);

}  // namespace plateau
