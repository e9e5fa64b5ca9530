// plateau-worker export: a checkpoint's weights as a file for others.
#pragma once

namespace CLI {
class App;
}

namespace plateau {

void AddExportVerb(CLI::App& app, int& exit_code);

}  // namespace plateau
