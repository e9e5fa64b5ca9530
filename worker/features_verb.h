// plateau-worker features: the outputs of a layer for every image of a store.
#pragma once

namespace CLI {
class App;
}

namespace plateau {

void AddFeaturesVerb(CLI::App& app, int& exit_code);

}  // namespace plateau
