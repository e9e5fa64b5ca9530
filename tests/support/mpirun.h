// Runs a test program's own functions as MPI ranks: the test starts mpirun on its own executable and checks the exit code.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

#include <sys/wait.h>

#include <fmt/format.h>

namespace plateau::test {

// Settings every mpirun of a test needs: root may run it, and there may be more ranks than cores.
inline void AllowMpirunHere() {
  setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
  setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
  setenv("OMPI_MCA_mpi_yield_when_idle", "1", 1);
}

inline constexpr const char* kRankFunction = "PLATEAU_TEST_RANK_FUNCTION";

// Functions by name that ranks may run; a static RankFunction fills it.
inline std::map<std::string, int (*)()>& RankFunctions() {
  static std::map<std::string, int (*)()> functions;
  return functions;
}
struct RankFunction {
  RankFunction(const std::string& name, int (*function)()) { RankFunctions()[name] = function; }
};

// Stands last in a test file: a process started by RunRanks runs its function instead of the tests.
struct RunRankFunctionIfAsked {
  RunRankFunctionIfAsked() {
    if (const char* name = std::getenv(kRankFunction)) std::exit(RankFunctions().at(name)());
  }
};

// Exit code of `ranks` ranks running the named function.
inline int RunRanks(int ranks, const std::string& function) {
  AllowMpirunHere();
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  const int status = std::system(fmt::format("mpirun -np {} -x {}={} {} >&2", ranks, kRankFunction, function, self).c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace plateau::test
