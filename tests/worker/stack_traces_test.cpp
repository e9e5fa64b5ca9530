// SIGUSR2 writes where every thread of this process stands.
#include "worker/stack_traces.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/file.h"
#include "tests/support/polling.h"
#include "tests/support/temp_folder.h"

namespace plateau::test {
namespace {

using ::testing::HasSubstr;

// A thread that tells its number and then waits until the test ends.
class Waiter {
 public:
  explicit Waiter(bool block_signals) : thread_([this, block_signals] { Run(block_signals); }) { number_ = told_.get_future().get(); }
  ~Waiter() {
    let_go_.set_value();
    thread_.join();
  }
  int64_t number() const { return number_; }

 private:
  void Run(bool block_signals) {
    sigset_t all;
    sigfillset(&all);
    if (block_signals) pthread_sigmask(SIG_SETMASK, &all, nullptr);
    told_.set_value(syscall(SYS_gettid));
    let_go_.get_future().wait();
  }
  std::promise<int64_t> told_;
  std::promise<void> let_go_;
  int64_t number_ = 0;
  std::thread thread_;
};

TEST(StackTraces, EveryThreadIsDescribedTheMainOneFirst) {
  TempFolder folder;
  PosixFileSystem files;
  const std::string path = folder.path() + "/log";
  const int output = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  ASSERT_GE(output, 0);
  for (int round = 1; round <= 2; ++round) {  // it can be asked again, and built again
    const StackTraces traces(output);
    const Waiter open_to_signals(false), closed_to_signals(true);
    ASSERT_EQ(kill(getpid(), SIGUSR2), 0);
    const auto ends = [&] {
      const std::string text = files.Read(path).value_or("");
      int count = 0;
      for (size_t at = text.find("=== end of"); at != std::string::npos; at = text.find("=== end of", at + 1)) ++count;
      return count;
    };
    ASSERT_TRUE(Eventually([&] { return ends() == round; })) << files.Read(path).value_or("");
    std::string text = files.Read(path).value();
    text = text.substr(text.rfind("=== stack traces of process"));
    const size_t main = text.find(fmt::format("thread {} (", getpid()));
    const size_t open_one = text.find(fmt::format("thread {} (", open_to_signals.number()));
    const size_t closed_one = text.find(fmt::format("thread {} (", closed_to_signals.number()));
    ASSERT_NE(main, std::string::npos) << text;
    ASSERT_NE(open_one, std::string::npos) << text;
    ASSERT_NE(closed_one, std::string::npos) << text;
    EXPECT_LT(main, open_one);
    const std::string of_main = text.substr(main, text.find("\nthread", main) - main);
    const std::string of_open = text.substr(open_one, text.find("\nthread", open_one) - open_one);
    const std::string of_closed = text.substr(closed_one, text.find("\nthread", closed_one) - closed_one);
    EXPECT_THAT(of_main, HasSubstr("stack_traces_test"));
    EXPECT_THAT(of_open, HasSubstr("libc.so"));
    EXPECT_THAT(of_open, HasSubstr("state S (sleeping)"));
    EXPECT_THAT(of_closed, HasSubstr("it blocks signals"));
  }
  close(output);
}

}  // namespace
}  // namespace plateau::test
