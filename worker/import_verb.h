// plateau-worker import: weights from elsewhere as a checkpoint.
#pragma once

namespace CLI {
class App;
}

namespace plateau {

void AddImportVerb(CLI::App& app, int& exit_code);

}  // namespace plateau
