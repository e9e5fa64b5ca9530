// plateau-worker predict: the likeliest classes of image files.
#pragma once

namespace CLI {
class App;
}

namespace plateau {

void AddPredictVerb(CLI::App& app, int& exit_code);

}  // namespace plateau
