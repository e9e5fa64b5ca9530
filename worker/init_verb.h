// plateau-worker init: writes fresh weights.
#pragma once

namespace CLI {
class App;
}

namespace plateau {

void AddInitVerb(CLI::App& app, int& exit_code);

}  // namespace plateau
