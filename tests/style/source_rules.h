// The house rules that a program can check, as functions over the text of one source file. Each returns its findings, empty when
// clean.
#pragma once

#include <string>
#include <vector>

namespace plateau::style {

struct SourceFile {
  std::string path;  // relative to the top: "worker/nn/plan.h"
  std::string text;
};

// All .h, .cpp and .cu files of the product and its tests under `top`.
std::vector<SourceFile> ReadSources(const std::string& top);

// common <- dataset <- worker, common <- dataset <- coordinator; worker and coordinator never include each other. Within worker:
// model <- nn <- backend; collective stands alone; train and evaluate use them; only the files directly in worker/ use all. Within
// coordinator: job <- schedule, store; cli uses no other room.
std::vector<std::string> CheckIncludeDirection(const SourceFile& file);

// Device and storage libraries stay in their rooms.
std::vector<std::string> CheckDeviceHeaders(const SourceFile& file);

// No function has `limit` lines or more between its braces.
std::vector<std::string> CheckFunctionLength(const SourceFile& file, int limit);

// A file opens with a comment of one sentence or more.
std::vector<std::string> CheckOpening(const SourceFile& file);

// No notes to oneself, no feature #if in code.
std::vector<std::string> CheckLeftovers(const SourceFile& file);

}  // namespace plateau::style
