// The task board alone: leases granted, renewed, expired, returned; shards committed once, by number; restarts of workers and
// coordinator.
#include "coordinator/ingest/board.h"

#include <algorithm>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/ingest/board_record.h"

namespace plateau {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// An ingest in the machine: Tell() advances it by one event, Wait() turns the clock.
class BoardUnderTest {
 public:
  explicit BoardUnderTest(int workers = 0, size_t shards = 3) {
    IngestOrder order;
    order.options.out = "/data/set";
    order.source.train = "/in/train.tar", order.source.val = "/in/val.tar";
    order.source.val_labels = "/in/val.txt", order.source.synsets = "/in/synsets.txt";
    order.workers = workers;
    dataset.id = "set-1";
    dataset.tag = "7a";
    dataset.order = std::make_shared<const IngestOrder>(order);
    Tell(Submitted{});
    DatasetPlanned planned{.plan_checksum = "abc", .splits = {{.name = "train", .sources = 100 * shards, .reject_limit = 5}}};
    for (size_t i = 0; i < shards; ++i) planned.tasks.push_back({0, fmt::format("train/{:05}", i), 100});
    Tell(planned);
  }

  DatasetOutcome Tell(const DatasetEvent& event) {
    DatasetOutcome outcome = Advance(dataset, event, now, limits);
    dataset = outcome.dataset;
    for (const auto& row : outcome.events) history.push_back(row.type);
    return outcome;
  }
  void Wait(int64_t ms) { now.unix_ms += ms, now.monotonic_ms += ms; }
  IngestSender From(const std::string& worker) { return {.worker = worker, .host = "node", .pid = 9, .request = ++requests}; }
  DatasetOutcome Say(const std::string& worker, const IngestMessage& message) { return Tell(IngestSaid{From(worker), message}); }
  // The lease's number; 0 when there is none to be had.
  int64_t Ask(const std::string& worker);
  // What a restarted coordinator reads back from its store.
  void Restart() {
    auto read = ParseDatasetRecord(DatasetRecordText(dataset));
    ASSERT_TRUE(read) << read.error().message;
    for (const auto& task : dataset.tasks) {
      auto stored = ParseTaskRecord(TaskRecordText(task));
      ASSERT_TRUE(stored) << stored.error().message;
      read->tasks.push_back(*stored);
    }
    dataset = *read;
  }
  int64_t Commit(const std::string& worker) {
    const int64_t lease = Ask(worker);
    Say(worker, ShardBuilt{"set-1", lease, "sum"});
    for (size_t i = 0; i < dataset.tasks.size(); ++i)
      if (dataset.tasks[i].lease.number == lease) Tell(ShardPlaced{i, lease, 100, 0, 0});
    return lease;
  }
  int Happened(const std::string& type) const { return static_cast<int>(std::count(history.begin(), history.end(), type)); }

  Dataset dataset;
  Moment now{1'000'000, 500};
  BoardLimits limits;
  uint64_t requests = 0;
  std::vector<std::string> history;
};

template <typename Action>
const Action* Find(const DatasetOutcome& outcome) {
  for (const auto& action : outcome.actions)
    if (const auto* found = std::get_if<Action>(&action)) return found;
  return nullptr;
}
template <typename Reply>
const Reply* Answer(const DatasetOutcome& outcome) {
  const auto* answer = Find<AnswerIngest>(outcome);
  return answer == nullptr ? nullptr : std::get_if<Reply>(&answer->reply);
}

int64_t BoardUnderTest::Ask(const std::string& worker) {
  const auto outcome = Say(worker, AskTask{});
  const auto* granted = Answer<TaskGranted>(outcome);
  return granted == nullptr ? 0 : granted->lease;
}

TEST(IngestBoard, GivesEachShardOnceUnderGrowingNumbers) {
  BoardUnderTest board;
  EXPECT_EQ(board.Ask("a"), 1);
  EXPECT_EQ(board.Ask("b"), 2);
  const auto outcome = board.Say("c", AskTask{});
  const auto* granted = Answer<TaskGranted>(outcome);
  ASSERT_NE(granted, nullptr);
  EXPECT_EQ(granted->lease, 3);
  EXPECT_EQ(granted->shard, "train/00002");
  EXPECT_EQ(granted->folder, "/data/set/ingest/lease-7a-3");
  EXPECT_EQ(granted->plan_checksum, "abc");
  EXPECT_TRUE(outcome.durable) << "the number is on the disk before it is given away";
  EXPECT_THAT(outcome.changed_tasks, ElementsAre(2u));
  const auto none = board.Say("d", AskTask{});
  EXPECT_TRUE(none.no_work);
  EXPECT_TRUE(none.actions.empty());
}

TEST(IngestBoard, ARepeatedQuestionGetsTheSameLease) {
  BoardUnderTest board;
  const IngestSender sender = board.From("a");
  board.Tell(IngestSaid{sender, AskTask{}});
  board.Restart();  // the answer was lost with the coordinator
  board.Tell(Recovered{});
  const auto again = board.Tell(IngestSaid{sender, AskTask{}});
  ASSERT_NE(Answer<TaskGranted>(again), nullptr);
  EXPECT_EQ(Answer<TaskGranted>(again)->lease, 1);
  EXPECT_EQ(board.dataset.last_lease, 1);
}

TEST(IngestBoard, AThreadThatAsksAnewHasForgottenItsShard) {
  BoardUnderTest board(0, 1);
  EXPECT_EQ(board.Ask("a"), 1);
  EXPECT_EQ(board.Ask("a"), 2) << "the same shard under a new number";
}

TEST(IngestBoard, ASilentWorkersShardGoesToAnotherAndItsLateReportIsRefused) {
  BoardUnderTest board(0, 1);
  board.Ask("zombie");
  board.Wait(board.limits.lease_ms - 1);
  EXPECT_EQ(board.Tell(TimerFired{}).events.size(), 0u);
  EXPECT_EQ(NextDeadline(board.dataset), board.now.monotonic_ms + 1);
  board.Wait(1);
  const auto expired = board.Tell(TimerFired{});
  EXPECT_EQ(Find<DropLease>(expired)->lease, 1);
  EXPECT_EQ(board.Ask("b"), 2);
  for (const IngestMessage& late : {IngestMessage(RenewLease{"set-1", 1, 50, 0}), IngestMessage(ShardBuilt{"set-1", 1, "old"})}) {
    const auto outcome = board.Say("zombie", late);
    EXPECT_NE(Answer<LeaseOver>(outcome), nullptr);
    EXPECT_EQ(Find<PlaceShard>(outcome), nullptr);
  }
  EXPECT_EQ(board.Happened("late_report"), 1);
  const auto built = board.Say("b", ShardBuilt{"set-1", 2, "new"});
  ASSERT_NE(Find<PlaceShard>(built), nullptr);
  EXPECT_EQ(Find<PlaceShard>(built)->checksum, "new");
}

TEST(IngestBoard, ARenewedLeaseLivesOn) {
  BoardUnderTest board(0, 1);
  board.Ask("a");
  for (int i = 0; i < 10; ++i) {
    board.Wait(board.limits.lease_ms - 1);
    const auto outcome = board.Say("a", RenewLease{"set-1", 1, static_cast<uint64_t>(i * 10), 1});
    EXPECT_NE(Answer<LeaseHeld>(outcome), nullptr);
    EXPECT_FALSE(outcome.durable);
    board.Tell(TimerFired{});
  }
  EXPECT_EQ(board.Happened("lease_expired"), 0);
  EXPECT_EQ(board.dataset.Handled(), 90u);
  EXPECT_EQ(board.dataset.Rejected(), 1u);
}

TEST(IngestBoard, AForeignNumberIsRefused) {
  BoardUnderTest board;
  board.Ask("a");
  for (const int64_t lease : {int64_t{0}, int64_t{-1}, int64_t{2}, int64_t{99}})
    EXPECT_NE(Answer<LeaseOver>(board.Say("a", ShardBuilt{"set-1", lease, "x"})), nullptr) << lease;
  const auto foreign = board.Say("b", ShardBuilt{"set-1", 1, "x"});
  EXPECT_NE(Answer<LeaseOver>(foreign), nullptr) << "the lease is another worker's";
  EXPECT_EQ(Find<PlaceShard>(foreign), nullptr);
}

TEST(IngestBoard, ADoubleReportCommitsOnce) {
  BoardUnderTest board(0, 2);
  board.Ask("a");
  EXPECT_NE(Find<PlaceShard>(board.Say("a", ShardBuilt{"set-1", 1, "x"})), nullptr);
  const auto repeated = board.Say("a", ShardBuilt{"set-1", 1, "x"});
  EXPECT_TRUE(repeated.actions.empty()) << "the answer comes with the commit";
  const auto placed = board.Tell(ShardPlaced{0, 1, 99, 1, 2});
  ASSERT_NE(Find<AnswerBuilt>(placed), nullptr);
  EXPECT_EQ(Find<AnswerBuilt>(placed)->lease, 1);
  EXPECT_TRUE(board.Tell(ShardPlaced{0, 1, 99, 1, 2}).events.empty());
  EXPECT_NE(Answer<ShardCommitted>(board.Say("a", ShardBuilt{"set-1", 1, "x"})), nullptr) << "a lost answer is given again";
  EXPECT_EQ(board.Happened("committed"), 1);
  EXPECT_EQ(board.dataset.tasks[0].records, 99u);
}

TEST(IngestBoard, AnAcceptedReportDoesNotExpire) {
  BoardUnderTest board(0, 1);
  board.Ask("a");
  board.Say("a", ShardBuilt{"set-1", 1, "x"});
  board.Wait(100 * board.limits.lease_ms);
  board.Tell(TimerFired{});
  EXPECT_TRUE(board.Say("b", AskTask{}).no_work);
  EXPECT_NE(Answer<LeaseHeld>(board.Say("a", RenewLease{"set-1", 1, 100, 0})), nullptr);
}

TEST(IngestBoard, ARestartedCoordinatorCommitsWhatItHadAcceptedAndGivesLeasesTheirFullTime) {
  BoardUnderTest board(0, 3);
  board.Ask("a");
  board.Ask("b");
  board.Say("a", ShardBuilt{"set-1", 1, "sum"});
  board.Wait(10 * board.limits.lease_ms);
  board.Restart();
  const auto recovered = board.Tell(Recovered{});
  EXPECT_NE(Find<ReopenStore>(recovered), nullptr);
  ASSERT_NE(Find<PlaceShard>(recovered), nullptr);
  EXPECT_EQ(Find<PlaceShard>(recovered)->lease, 1);
  EXPECT_EQ(Find<PlaceShard>(recovered)->checksum, "sum");
  board.Tell(TimerFired{});
  EXPECT_NE(Answer<LeaseHeld>(board.Say("b", RenewLease{"set-1", 2, 5, 0})), nullptr);
  EXPECT_EQ(board.Ask("c"), 3) << "numbers go on, none is used twice";
}

TEST(IngestBoard, TheLastCommitFinishesTheStoreAndSendsWorkersAway) {
  BoardUnderTest board(0, 2);
  board.Commit("a");
  const int64_t lease = board.Ask("a");
  board.Say("a", ShardBuilt{"set-1", lease, "x"});
  const auto last = board.Tell(ShardPlaced{1, lease, 100, 0, 0});
  EXPECT_NE(Find<FinishStore>(last), nullptr);
  EXPECT_EQ(board.dataset.state, DatasetState::kFinishing);
  EXPECT_NE(Answer<NoTask>(board.Say("a", AskTask{})), nullptr);
  const auto cancel = board.Tell(CancelRequested{});
  EXPECT_THAT(cancel.refusal, HasSubstr("cannot be cancelled"));
  const auto finished = board.Tell(StoreFinished{{{.name = "train", .sources = 200, .records = 200, .checksum = "c"}}});
  EXPECT_NE(Find<CloseStore>(finished), nullptr);
  EXPECT_EQ(board.dataset.state, DatasetState::kCompleted);
  EXPECT_FALSE(NextDeadline(board.dataset).has_value());
}

TEST(IngestBoard, FinishedShardsOfAnEarlierRunAreNotBuiltAgain) {
  BoardUnderTest board(0, 0);
  board.dataset.state = DatasetState::kPlanning;
  board.dataset.tasks.clear();
  const auto outcome =
      board.Tell(DatasetPlanned{.plan_checksum = "p",
                                .splits = {{.name = "train", .sources = 2, .reject_limit = 0}},
                                .tasks = {{0, "train/00000", 1, true, 1, 0, 0}, {0, "train/00001", 1, true, 1, 0, 0}}});
  EXPECT_NE(Find<FinishStore>(outcome), nullptr);
  EXPECT_EQ(board.dataset.last_lease, 0);
}

TEST(IngestBoard, CancelEndsEveryLeaseAndPublishesNothing) {
  BoardUnderTest board(1, 3);
  board.Ask("a");
  const auto outcome = board.Tell(CancelRequested{});
  EXPECT_NE(Find<CloseStore>(outcome), nullptr);
  EXPECT_NE(Find<KillIngestWorker>(outcome), nullptr);
  EXPECT_EQ(Find<FinishStore>(outcome), nullptr);
  EXPECT_NE(Answer<LeaseOver>(board.Say("a", ShardBuilt{"set-1", 1, "x"})), nullptr);
  EXPECT_NE(Answer<NoTask>(board.Say("a", AskTask{})), nullptr);
  EXPECT_THAT(board.Tell(CancelRequested{}).refusal, HasSubstr("CANCELLED"));
}

TEST(IngestBoard, TooManyBadImagesFailTheIngest) {
  {
    BoardUnderTest board(0, 3);  // the limit is 5
    for (int i = 0; i < 2; ++i) {
      const int64_t lease = board.Ask("a");
      board.Say("a", ShardBuilt{"set-1", lease, "x"});
      const auto placed = board.Tell(ShardPlaced{static_cast<size_t>(i), lease, 97, 3, 0});
      EXPECT_EQ(Find<FinishStore>(placed) != nullptr, i == 1);
    }
    EXPECT_TRUE(board.dataset.overflow);
    board.Tell(DatasetBroken{{ErrorCode::kInvalidInput, "6 of its 300 train images are bad"}});
    EXPECT_EQ(board.dataset.reason, "TOO_MANY_REJECTED");
    EXPECT_EQ(board.dataset.message, "6 of its 300 train images are bad");
  }
  BoardUnderTest board(0, 3);
  const int64_t lease = board.Ask("a");
  board.Ask("b");
  const auto outcome = board.Say("a", ShardBuilt{"set-1", lease, "x", true});
  ASSERT_NE(Find<FinishStore>(outcome), nullptr);
  EXPECT_EQ(Find<FinishStore>(outcome)->overflow_lease, lease) << "its result lists the reasons";
  EXPECT_NE(Answer<LeaseOver>(board.Say("b", RenewLease{"set-1", 2, 1, 0})), nullptr);
  board.Restart();
  const auto recovered = board.Tell(Recovered{});
  EXPECT_EQ(Find<FinishStore>(recovered)->overflow_lease, lease);
}

TEST(IngestBoard, ARepeatedFailureOfOneShardFailsTheIngest) {
  BoardUnderTest board(0, 2);
  for (int i = 0; i < board.limits.max_task_failures; ++i) {
    EXPECT_EQ(board.dataset.state, DatasetState::kRunning);
    board.Say("a", BuildFailed{"set-1", board.Ask("a"), "train.tar: cannot read: Input/output error"});
  }
  EXPECT_EQ(board.dataset.state, DatasetState::kFailed);
  EXPECT_THAT(board.dataset.message, HasSubstr("Input/output error"));
}

TEST(IngestBoard, AHostThatCannotBuildLeavesItsShardsToTheOthers) {
  BoardUnderTest board(0, 4);
  const auto ask_on = [&](const std::string& host) {
    IngestSender sender = board.From("w@" + host);
    sender.host = host;
    const auto outcome = board.Tell(IngestSaid{sender, AskTask{}});
    const auto* answer = Find<AnswerIngest>(outcome);
    const auto* granted = answer == nullptr ? nullptr : std::get_if<TaskGranted>(&answer->reply);
    return granted == nullptr ? int64_t{0} : granted->lease;
  };
  const auto fail_on = [&](const std::string& host, int64_t lease) {
    IngestSender sender = board.From("w@" + host);
    sender.host = host;
    board.Tell(IngestSaid{sender, BuildFailed{"set-1", lease, "no such folder"}});
  };
  const int64_t good = ask_on("good");
  for (int i = 0; i < 3; ++i) fail_on("bad", ask_on("bad"));
  EXPECT_EQ(ask_on("bad"), 0) << "it failed at every shard that is free";
  EXPECT_EQ(board.dataset.state, DatasetState::kRunning);
  EXPECT_GT(ask_on("good"), good);

  board.Wait(board.limits.lease_ms);  // the good host is gone: better to try again than to wait for ever
  for (int i = 0; i < 2; ++i) {
    const int64_t lease = ask_on("bad");
    ASSERT_GT(lease, 0);
    fail_on("bad", lease);
  }
  EXPECT_EQ(board.dataset.state, DatasetState::kFailed) << "the third time on one host";
}

TEST(IngestBoard, AFailedCommitGivesTheShardOutAgain) {
  BoardUnderTest board(0, 1);
  board.Ask("a");
  board.Say("a", ShardBuilt{"set-1", 1, "x"});
  const auto outcome = board.Tell(ShardMisplaced{0, 1, "No space left on device"});
  EXPECT_NE(Find<AnswerBuilt>(outcome), nullptr);
  EXPECT_EQ(board.Ask("b"), 2);
}

TEST(IngestBoard, ALaunchedWorkersExitFreesItsShardAtOnceAndItIsReplaced) {
  BoardUnderTest board(2, 3);
  EXPECT_EQ(board.dataset.slots.size(), 2u);
  EXPECT_TRUE(board.dataset.slots[0].alive && board.dataset.slots[1].alive);
  IngestSender sender = board.From("w1");
  sender.dataset = "set-1", sender.slot = 1, sender.attempt = 1;
  board.Tell(IngestSaid{sender, AskTask{}});
  EXPECT_EQ(board.dataset.Count(TaskState::kLeased), 1u);
  const auto exited = board.Tell(IngestWorkerExited{1, 1, "killed by signal 9"});
  EXPECT_EQ(Find<DropLease>(exited)->lease, 1);
  EXPECT_EQ(board.dataset.Count(TaskState::kLeased), 0u);
  EXPECT_EQ(NextDeadline(board.dataset), board.now.monotonic_ms + board.limits.first_restart_delay_ms);
  board.Wait(board.limits.first_restart_delay_ms);
  const auto relaunched = board.Tell(TimerFired{});
  ASSERT_NE(Find<LaunchIngestWorker>(relaunched), nullptr);
  EXPECT_EQ(Find<LaunchIngestWorker>(relaunched)->attempt, 2);
  EXPECT_NE(Answer<NoTask>(board.Tell(IngestSaid{sender, AskTask{}})), nullptr) << "the first attempt is history";
}

TEST(IngestBoard, WhenEveryWorkerKeepsDyingTheIngestFailsAndSaysSo) {
  BoardUnderTest board(1, 2);
  for (int i = 0; board.dataset.state == DatasetState::kRunning && i < 20; ++i) {
    board.Tell(IngestWorkerExited{1, board.dataset.slots[0].attempt, "plateau-worker exited with code 127"});
    board.Wait(board.limits.longest_restart_delay_ms);
    board.Tell(TimerFired{});
  }
  EXPECT_EQ(board.dataset.state, DatasetState::kFailed);
  EXPECT_EQ(board.dataset.reason, "WORKERS_LOST");
  EXPECT_EQ(board.dataset.slots[0].attempt, 1 + board.limits.max_worker_restarts);
  EXPECT_THAT(board.dataset.message, HasSubstr("code 127"));
}

TEST(IngestBoard, TheLastLeaseGivenBackWithNobodyLeftFailsTheIngest) {
  BoardUnderTest board(1, 1);
  const int64_t lease = board.Ask("by-hand");
  for (int i = 0; i < 20; ++i) {
    board.Tell(IngestWorkerExited{1, board.dataset.slots[0].attempt, "plateau-worker exited with code 127"});
    board.Wait(board.limits.longest_restart_delay_ms);
    board.Say("by-hand", RenewLease{"set-1", lease, 1, 0});
    board.Tell(TimerFired{});
  }
  EXPECT_EQ(board.dataset.state, DatasetState::kRunning) << "a worker started by hand still builds";
  board.Say("by-hand", ReturnLease{"set-1", lease});
  EXPECT_EQ(board.dataset.reason, "WORKERS_LOST");
}

// Random workers, deaths, restarts and repeated messages: every shard is committed exactly once, and no number is given twice.
TEST(IngestBoard, RandomHistoriesCommitEveryShardOnce) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    BoardUnderTest board(0, 5);
    std::map<std::string, int64_t> holds;
    std::map<int64_t, int> granted;
    std::vector<PlaceShard> placing;
    uint64_t state = seed * 0x9E3779B97F4A7C15ULL;
    const auto draw = [&state](uint64_t bound) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      return (state >> 33) % bound;
    };
    for (int step = 0; board.dataset.state == DatasetState::kRunning && step < 5000; ++step) {
      const std::string worker(1, static_cast<char>('a' + draw(4)));
      DatasetOutcome outcome;
      switch (draw(8)) {
        case 0:
        case 1:
          if (const int64_t lease = board.Ask(worker); lease > 0) holds[worker] = lease, granted[lease] += 1;
          break;
        case 2:
        case 3: outcome = board.Say(worker, ShardBuilt{"set-1", holds[worker], "x"}); break;
        case 4: outcome = board.Say(worker, RenewLease{"set-1", holds[worker], 10, 0}); break;
        case 5:
          board.Wait(static_cast<int64_t>(draw(8'000)));
          outcome = board.Tell(TimerFired{});
          break;
        case 6:
          if (draw(4) > 0) break;
          placing.clear();  // what the old coordinator was about to do is forgotten with it
          board.Restart();
          outcome = board.Tell(Recovered{});
          break;
        default:
          if (placing.empty()) break;
          const PlaceShard place = placing[draw(placing.size())];
          outcome = draw(5) == 0 ? board.Tell(ShardMisplaced{place.task, place.lease, "full"})
                                 : board.Tell(ShardPlaced{place.task, place.lease, 100, 0, 0});
          for (auto& task : board.dataset.tasks) task.failures = 0, task.failed_on.clear();
      }
      for (const auto& action : outcome.actions)
        if (const auto* place = std::get_if<PlaceShard>(&action)) placing.push_back(*place);
    }
    EXPECT_EQ(board.dataset.state, DatasetState::kFinishing) << "seed " << seed;
    EXPECT_EQ(board.Happened("committed"), 5) << "seed " << seed;
    for (const auto& [lease, times] : granted) EXPECT_EQ(times, 1) << "lease " << lease << ", seed " << seed;
  }
}

}  // namespace
}  // namespace plateau
