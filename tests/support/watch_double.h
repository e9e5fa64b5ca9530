// A watch of a start that remembers what it heard, and wants a stop when it has been asked some times.
#pragma once

#include <string>
#include <vector>

#include "worker/nn/start_watch.h"

namespace plateau::test {

class WatchDouble final : public StartWatch {
 public:
  // `asked`: this many times it is asked in vain first; below 0: it never wants a stop.
  explicit WatchDouble(int asked = -1) : left_(asked) {}
  void Begin(const char* what, const char* pieces, int all) override {
    begun.push_back(what);
    last_pieces = pieces;
    last_all = all;
  }
  void Done(int pieces) override { done = pieces; }
  void End() override { ++ended; }
  bool WantsStop() override {
    ++questions;
    return left_ >= 0 && left_-- == 0;
  }

  std::vector<std::string> begun;
  std::string last_pieces;
  int last_all = 0, done = 0, ended = 0, questions = 0;

 private:
  int left_;
};

}  // namespace plateau::test
