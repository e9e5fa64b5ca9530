// plateau-worker probe: logits, loss and gradients of given weights on given input, for comparison with other libraries.
#pragma once

namespace CLI {
class App;
}

namespace plateau {

void AddProbeVerb(CLI::App& app, int& exit_code);

}  // namespace plateau
