// Real supervisor processes with shell scripts in mpirun's place: exit codes, kills, escaped children, a supervisor that dies.
#include <condition_variable>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sys/stat.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/launch/attempt_files.h"
#include "coordinator/launch/local_launcher.h"
#include "tests/support/polling.h"
#include "tests/support/temp_folder.h"

namespace plateau::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class SupervisorTest : public ::testing::Test {
 protected:
  SupervisorTest() { NewLauncher(); }

  void NewLauncher(const std::string& supervisor = std::string(PLATEAU_BIN_DIR) + "/plateau-coordinator") {
    launcher_ = std::make_unique<LocalLauncher>(
        LocalLauncherOptions{.supervisor_program = supervisor}, files_, clock_,
        [this](const ExitNotice& notice) {
          const std::lock_guard lock(mutex_);
          notices_.push_back(notice);
          came_.notify_all();
        });
  }
  std::string Folder(int attempt = 1) const { return folder_.path() + "/attempt-" + std::to_string(attempt); }
  // A script as the program of an attempt.
  LaunchRequest Request(const std::string& script, int attempt = 1) {
    LaunchRequest request{.job = "small-1", .attempt = attempt, .folder = Folder(attempt)};
    request.arguments = {"/bin/bash", "-c", script};
    request.environment = {{"MARK_FOLDER", folder_.path()}};
    request.scratch = folder_.path() + "/scratch";
    request.grace_ms = 300;
    return request;
  }
  int64_t Start(const LaunchRequest& request) {
    auto pid = launcher_->Start(request);
    EXPECT_TRUE(pid.has_value()) << (pid ? "" : pid.error().message);
    return pid ? *pid : -1;
  }
  ExitNotice Notice() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(came_.wait_for(lock, std::chrono::seconds(60), [this] { return !notices_.empty(); }));
    if (notices_.empty()) return {};
    ExitNotice notice = notices_.front();
    notices_.erase(notices_.begin());
    return notice;
  }
  bool NoNotice() {
    const std::lock_guard lock(mutex_);
    return notices_.empty();
  }
  // The pid that a script wrote into a file.
  int PidFrom(const std::string& name) const {
    int pid = 0;
    EXPECT_TRUE(Eventually([&] { return static_cast<bool>(std::ifstream(folder_.path() + "/" + name) >> pid); })) << name;
    return pid;
  }
  static bool IsAlive(int pid) {
    const auto info = ReadProcess(pid);
    return info && info->state != 'Z';
  }

  TempFolder folder_;
  PosixFileSystem files_;
  SystemClock clock_;
  std::mutex mutex_;
  std::condition_variable came_;
  std::vector<ExitNotice> notices_;
  std::unique_ptr<LocalLauncher> launcher_;
};

TEST_F(SupervisorTest, TheExitCodeArrivesAndStaysOnTheDisk) {
  Start(Request("echo to the log; exit 7"));
  const auto notice = Notice();
  EXPECT_EQ(notice.exit_code, 7);
  EXPECT_EQ(notice.job, "small-1");
  EXPECT_TRUE(notice.launched);
  EXPECT_EQ(ReadExitFile(files_, Folder())->exit_code, 7);
  EXPECT_EQ(files_.Read(Folder() + "/logs/mpirun.log").value(), "to the log\n");
  EXPECT_FALSE(files_.Exists(folder_.path() + "/scratch")) << "left-overs go";
}

TEST_F(SupervisorTest, OrphansThatEndOneAfterTheOtherDoNotProlongTheGrace) {
  Start(Request("trap '' TERM; echo $$ > $MARK_FOLDER/pid; while :; do (sleep 0.05 &); sleep 0.05; done"));
  PidFrom("pid");
  launcher_->Kill("small-1", 1, false);
  const ExitNotice notice = Notice();
  EXPECT_EQ(notice.signal, SIGKILL);
  EXPECT_THAT(notice.message, HasSubstr("after it was told to end")) << "its supervisor had to be killed";
}

TEST_F(SupervisorTest, ADeathBySignalIsNamed) {
  Start(Request("kill -SEGV $$"));
  const auto notice = Notice();
  EXPECT_EQ(notice.signal, SIGSEGV);
  EXPECT_EQ(notice.exit_code, 128 + SIGSEGV);
  EXPECT_THAT(notice.message, HasSubstr("Segmentation"));
}

TEST_F(SupervisorTest, AProgramThatIsNotThereIsNoLaunch) {
  auto request = Request("");
  request.arguments = {"no-such-mpirun", "-np", "1"};
  Start(request);
  const auto notice = Notice();
  EXPECT_FALSE(notice.launched);
  EXPECT_THAT(notice.message, HasSubstr("no-such-mpirun"));
}

TEST_F(SupervisorTest, AKillAsksFirst) {
  auto request = Request("trap 'exit 4' TERM; echo $$ > $MARK_FOLDER/ready; while true; do sleep 0.05; done");
  request.grace_ms = 60'000;  // whoever leaves when asked is never killed, however slow
  Start(request);
  PidFrom("ready");
  launcher_->Kill("small-1", 1, false);
  const auto notice = Notice();
  EXPECT_EQ(notice.exit_code, 4);
  EXPECT_EQ(notice.signal, 0);
  EXPECT_THAT(notice.message, HasSubstr("told to end"));
}

TEST_F(SupervisorTest, AKillThatIsNotHeededEmptiesTheSession) {
  Start(
      Request("trap '' TERM; setsid sleep 1000 & echo $! > $MARK_FOLDER/escaped; sleep 1000 & echo $! > $MARK_FOLDER/child; "
              "while true; do sleep 1000 & wait; done"));
  const int escaped = PidFrom("escaped"), child = PidFrom("child");
  EXPECT_TRUE(IsAlive(escaped));
  ASSERT_TRUE(Eventually([&] { return ReadProcess(escaped)->session != ReadProcess(child)->session; }))
      << "it has a session of its own";
  launcher_->Kill("small-1", 1, false);
  const auto notice = Notice();
  EXPECT_EQ(notice.signal, SIGKILL);
  EXPECT_THAT(notice.message, HasSubstr("told to end"));
  EXPECT_FALSE(IsAlive(escaped));
  EXPECT_FALSE(IsAlive(child));
}

TEST_F(SupervisorTest, BeforeAHungAttemptIsKilledItsStateIsSaved) {
  Start(
      Request("trap 'echo asked > $MARK_FOLDER/traces' USR2; sleep 1000 & kill -STOP $!; echo $! > $MARK_FOLDER/stopped; "
              "while true; do wait; done"));
  const int stopped = PidFrom("stopped");
  ASSERT_TRUE(Eventually([&] { return ReadProcess(stopped)->state == 'T'; }));
  launcher_->Kill("small-1", 1, true);
  EXPECT_THAT(Notice().message, HasSubstr("told to end"));
  EXPECT_TRUE(files_.Exists(folder_.path() + "/traces")) << "mpirun hands SIGUSR2 on to its ranks";
  EXPECT_FALSE(IsAlive(stopped));
  const std::string report = files_.Read(Folder() + "/logs/hang.txt").value();
  EXPECT_THAT(report, HasSubstr("Attempt 1 of job small-1"));
  const size_t at = report.find(fmt::format("process {}\n", stopped));
  ASSERT_NE(at, std::string::npos) << report;
  const std::string of_stopped = report.substr(at, report.find("\nprocess", at) - at);
  EXPECT_THAT(of_stopped, HasSubstr("State:\tT (stopped)"));
  EXPECT_THAT(of_stopped, HasSubstr(fmt::format("thread {} (", stopped)));
  EXPECT_THAT(report, HasSubstr("Name:\tbash"));
}

TEST_F(SupervisorTest, NothingRunsThatSupervisorJsonDoesNotName) {
  const auto request = Request("touch $MARK_FOLDER/ran");
  ASSERT_TRUE(files_.MakeDirectories(Folder() + "/supervisor.json/in-the-way").has_value());
  Start(request);
  const auto notice = Notice();
  EXPECT_FALSE(notice.launched);
  EXPECT_THAT(notice.message, HasSubstr("supervisor.json"));
  EXPECT_FALSE(files_.Exists(folder_.path() + "/ran"));
}

TEST_F(SupervisorTest, ChildrenThatOutliveTheirMpirunAreKilledBeforeTheNotice) {
  Start(Request(
      "sleep 1000 & echo $! > $MARK_FOLDER/child; setsid sleep 1000 & echo $! > $MARK_FOLDER/escaped; sleep 0.2; kill -KILL $$"));
  EXPECT_EQ(Notice().signal, SIGKILL);
  EXPECT_FALSE(IsAlive(PidFrom("child")));
  EXPECT_FALSE(IsAlive(PidFrom("escaped")));
}

TEST_F(SupervisorTest, AKilledSupervisorsSessionIsEmptiedInItsPlace) {
  const int64_t supervisor = Start(Request("sleep 1000 & echo $! > $MARK_FOLDER/child; wait"));
  const int child = PidFrom("child");
  ASSERT_TRUE(Eventually([&] { return files_.Exists(Folder() + "/supervisor.json"); }));
  ::kill(static_cast<pid_t>(supervisor), SIGKILL);
  const auto notice = Notice();
  EXPECT_EQ(notice.exit_code, -1);
  EXPECT_THAT(notice.message, HasSubstr("supervisor died"));
  EXPECT_FALSE(IsAlive(child));
  EXPECT_TRUE(ReadExitFile(files_, Folder()).has_value()) << "the verdict is durable";
}

TEST_F(SupervisorTest, ARunningAttemptIsFoundAgainByAnotherLauncher) {
  Start(Request("echo $$ > $MARK_FOLDER/mpirun; while [ ! -e $MARK_FOLDER/go ]; do sleep 0.05; done; exit 5"));
  const int mpirun = PidFrom("mpirun");
  launcher_.reset();
  EXPECT_TRUE(IsAlive(mpirun)) << "it does not need the coordinator";
  NewLauncher();
  launcher_->Adopt("small-1", 1, Folder());
  EXPECT_TRUE(NoNotice());
  std::ofstream(folder_.path() + "/go") << "go";
  EXPECT_EQ(Notice().exit_code, 5);
}

// The coordinator dies right after it started the supervisor, and the next one is there before the supervisor has come to its lock.
TEST_F(SupervisorTest, ASupervisorThatIsStillStartingIsWaitedFor) {
  const std::string slow = folder_.path() + "/slow";
  const std::string go = folder_.path() + "/go";
  ASSERT_EQ(::mkfifo(go.c_str(), 0600), 0);
  std::ofstream(slow) << "#!/bin/bash\nread -r < " << go << "\nexec " PLATEAU_BIN_DIR "/plateau-coordinator \"$@\"\n";
  std::filesystem::permissions(slow, std::filesystem::perms::owner_all);
  NewLauncher(slow);
  Start(Request("exit 6"));
  NewLauncher();
  launcher_->Adopt("small-1", 1, Folder());
  std::ofstream(go) << "go\n";  // opens when the script reads
  const ExitNotice notice = Notice();
  EXPECT_TRUE(notice.launched) << notice.message;
  EXPECT_EQ(notice.exit_code, 6);
}

TEST_F(SupervisorTest, AnAdoptedAttemptCanBeKilled) {
  Start(Request("echo $$ > $MARK_FOLDER/mpirun; sleep 1000"));
  const int mpirun = PidFrom("mpirun");
  launcher_.reset();
  NewLauncher();
  launcher_->Adopt("small-1", 1, Folder());
  launcher_->Kill("small-1", 1, false);
  EXPECT_THAT(Notice().message, HasSubstr("told to end"));
  EXPECT_FALSE(IsAlive(mpirun));
}

TEST_F(SupervisorTest, AnAttemptThatEndedMeanwhileTellsItsExit) {
  Start(Request("exit 9"));
  Notice();
  NewLauncher();
  launcher_->Adopt("small-1", 1, Folder());
  EXPECT_EQ(Notice().exit_code, 9);
}

TEST_F(SupervisorTest, AnAttemptThatWasNeverLaunchedCannotStartLater) {
  const auto request = Request("touch $MARK_FOLDER/ran");
  ASSERT_TRUE(files_.MakeDirectories(request.folder + "/logs").has_value());
  ASSERT_TRUE(WriteLaunchFile(files_, request).has_value());
  launcher_->Adopt("small-1", 1, Folder());
  EXPECT_FALSE(Notice().launched);
  // A supervisor that was on its way comes too late: exit.json is there.
  const std::string command = std::string(PLATEAU_BIN_DIR) + "/plateau-coordinator supervise --dir " + Folder() + " 2>/dev/null";
  EXPECT_EQ(std::system(command.c_str()), 0);
  EXPECT_FALSE(files_.Exists(folder_.path() + "/ran"));
}

TEST_F(SupervisorTest, AnAttemptWithoutAFolderWasNotLaunched) {
  launcher_->Adopt("small-1", 4, folder_.path() + "/nowhere");
  EXPECT_FALSE(Notice().launched);
}

TEST_F(SupervisorTest, ASecondSupervisorOfTheSameAttemptLeaves) {
  Start(Request("echo $$ > $MARK_FOLDER/mpirun; sleep 1000"));
  PidFrom("mpirun");
  const std::string command = std::string(PLATEAU_BIN_DIR) + "/plateau-coordinator supervise --dir " + Folder() + " 2>/dev/null";
  EXPECT_NE(std::system(command.c_str()), 0);
  launcher_->Kill("small-1", 1, false);
  Notice();
}

TEST_F(SupervisorTest, SeveralAttemptsAreWatchedAtOnce) {
  for (int attempt = 1; attempt <= 5; ++attempt) Start(Request("exit " + std::to_string(10 + attempt), attempt));
  std::map<int, int> codes;
  for (int i = 0; i < 5; ++i) {
    const auto notice = Notice();
    codes[notice.attempt] = notice.exit_code;
  }
  for (int attempt = 1; attempt <= 5; ++attempt) EXPECT_EQ(codes[attempt], 10 + attempt);
}

TEST(Session, AnOlderProcessWithTheSameSessionNumberIsNotOurs) {
  const auto self = ReadProcess(::getpid());
  ASSERT_TRUE(self.has_value());
  SessionMark mark{self->session, self->start_ticks + 1'000'000'000, BootId(), ""};
  EXPECT_THAT(SessionMembers(mark), IsEmpty());
  mark = {self->session, 0, "another boot", ""};
  EXPECT_THAT(SessionMembers(mark), IsEmpty());
}

TEST(Session, AProcessNameWithParenthesesIsRead) {
  const TempFolder folder;
  const std::string program = folder.path() + "/a) R 1 (b";
  std::filesystem::copy_file("/bin/sleep", program);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::execl(program.c_str(), program.c_str(), "1000", nullptr);
    ::_exit(1);
  }
  EXPECT_TRUE(Eventually([&] { return std::filesystem::exists("/proc/" + std::to_string(pid)) && ReadProcess(pid).has_value(); }));
  EXPECT_EQ(ReadProcess(pid)->parent, ::getpid());
  ::kill(pid, SIGKILL);
}

}  // namespace
}  // namespace plateau::test
