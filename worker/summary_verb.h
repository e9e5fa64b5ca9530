// plateau-worker summary: the layers of a network with shapes, memory, parameters and multiply-adds.
#pragma once

namespace CLI {
class App;
}

namespace plateau {

void AddSummaryVerb(CLI::App& app, int& exit_code);

}  // namespace plateau
