// plateau-worker devices: the GPUs that this machine offers, for people and for the coordinator that asks its hosts.
#pragma once

namespace CLI {
class App;
}

namespace plateau {

void AddDevicesVerb(CLI::App& app, int& exit_code);

}  // namespace plateau
