// `plateau-worker train`.
#pragma once

namespace CLI {
class App;
}

namespace plateau {

void AddTrainVerb(CLI::App& app, int& exit_code);

}  // namespace plateau
