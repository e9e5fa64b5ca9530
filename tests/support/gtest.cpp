// A file for the targets that precompile GoogleTest's headers: CMake gives a target without one no commands.
