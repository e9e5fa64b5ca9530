// plateau-worker bench: speed of whole training steps, and time by layer and pass.
#pragma once

namespace CLI {
class App;
}

namespace plateau {

void AddBenchVerb(CLI::App& app, int& exit_code);

}  // namespace plateau
