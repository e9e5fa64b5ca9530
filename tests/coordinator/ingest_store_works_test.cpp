// The disk half of a coordinator's ingest: every file call of a commit and of the finish may fail, and doing it again gives the
// same.
#include "coordinator/ingest/store_works.h"

#include <cstdio>
#include <filesystem>

#include <gtest/gtest.h>

#include "common/checksum.h"
#include "dataset/ingest.h"
#include "dataset/ingest_result.h"
#include "dataset/synthesize.h"
#include "dataset/verify.h"
#include "tests/support/faulty_files.h"
#include "tests/support/store_files.h"

namespace plateau {
namespace {

using test::FaultyFiles;
using testing::TempFolder;

class StoreWorksTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto source = OpenSynthetic({.classes = 2, .train = 12, .val = 4, .side = 16});
    ASSERT_TRUE(WriteIlsvrc(files_, *source, folder_ / "set"));
    IngestOrder order;
    order.source = {.train = folder_ / "set/train.tar",
                    .val = folder_ / "set/val.tar",
                    .val_labels = folder_ / "set/val.txt",
                    .synsets = folder_ / "set/synset_words.txt"};
    order.options.out = folder_ / "store";
    order.options.shards = 2;
    dataset_.id = "store-1";
    dataset_.tag = "ab";
    dataset_.order = std::make_shared<const IngestOrder>(order);
  }
  // What a worker does under lease `lease`.
  PlaceShard Build(size_t task, int64_t lease) {
    const auto source = OpenSource(dataset_.order->source);
    const IngestPlan plan = PlanIngest(*source, dataset_.order->options);
    const std::string folder = dataset_.LeaseFolder(lease);
    auto result = BuildShard(files_, plan.Task(task, folder + "/shard"), [](const RejectedImage*) { return Status(); });
    EXPECT_TRUE(result);
    result->info.folder = plan.tasks[task].folder;
    const std::string text = ShardResultText(*result);
    EXPECT_TRUE(WriteFileAtomic(files_, folder + "/result.json", text));
    return {task, lease, ChecksumText(Checksum(text))};
  }
  // The store is published, whole, and always the same.
  void ExpectFinished(StoreWorks& works) {
    const auto finished = works.Finish(false, 0);
    ASSERT_TRUE(finished) << finished.error().message;
    EXPECT_EQ(finished->splits[0].records, 12u);
    if (checksum_.empty()) checksum_ = finished->splits[0].checksum;
    EXPECT_EQ(finished->splits[0].checksum, checksum_);
    EXPECT_FALSE(std::filesystem::exists(folder_ / "store/ingest"));
    const auto verified = VerifyStore(files_, clock_, folder_ / "store", 1, true);
    ASSERT_TRUE(verified) << verified.error().message;
    EXPECT_TRUE(verified->problems.empty());
  }
  std::unique_ptr<StoreWorks> Works(FileSystem& files) { return std::make_unique<StoreWorks>(files, clock_, dataset_, never_); }

  TempFolder folder_{test::FastFolder()};  // RocksDB syncs often
  PosixFileSystem files_;
  SystemClock clock_;
  std::atomic<bool> never_ = false;
  Dataset dataset_;
  std::string checksum_;
};

class StoreWorksFaults : public StoreWorksTest, public ::testing::WithParamInterface<test::Fault> {};

// The coordinator dies after each file call of a commit, or the call fails; started again it ends with the same shard.
TEST_P(StoreWorksFaults, ACommitIsDoneOnceWhateverFileCallGoesWrong) {
  FaultyFiles faulty;
  int calls = 0;
  for (;; ++calls) {
    std::filesystem::remove_all(folder_ / "store");
    faulty.Arm(-1, GetParam());
    auto works = Works(faulty);
    const auto planned = works->Plan();
    ASSERT_TRUE(planned) << planned.error().message;
    const PlaceShard place = Build(0, 1);
    faulty.Arm(calls, GetParam());
    const auto first = works->Place(place);
    const bool reached = faulty.reached();
    works.reset();
    works = Works(files_);
    ASSERT_TRUE(works->Reopen(planned->plan_checksum, false));
    const auto again = works->Place(place);
    ASSERT_TRUE(again) << "call " << calls << ": " << again.error().message;
    EXPECT_EQ(again->records, 6u);
    EXPECT_FALSE(std::filesystem::exists(dataset_.LeaseFolder(1)));
    for (size_t task = 1; task < planned->tasks.size(); ++task)
      ASSERT_TRUE(works->Place(Build(task, static_cast<int64_t>(task) + 1)));
    ExpectFinished(*works);
    if (!reached) break;
  }
  std::printf("%s: a commit makes %s\n", test::FaultName(GetParam()), faulty.Summary().c_str());
  EXPECT_GT(calls, 5);
}

TEST_P(StoreWorksFaults, AFinishedStoreIsWholeWhateverFileCallGoesWrong) {
  FaultyFiles faulty;
  int calls = 0;
  for (;; ++calls) {
    std::filesystem::remove_all(folder_ / "store");
    faulty.Arm(-1, GetParam());
    auto works = Works(faulty);
    const auto planned = works->Plan();
    ASSERT_TRUE(planned);
    for (size_t task = 0; task < planned->tasks.size(); ++task)
      ASSERT_TRUE(works->Place(Build(task, static_cast<int64_t>(task) + 1)));
    faulty.Arm(calls, GetParam());
    const auto first = works->Finish(false, 0);
    const bool reached = faulty.reached();
    works.reset();
    works = Works(files_);
    ASSERT_TRUE(works->Reopen(planned->plan_checksum, true)) << "call " << calls;
    ExpectFinished(*works);
    if (!reached) break;
  }
  std::printf("%s: the finish makes %s\n", test::FaultName(GetParam()), faulty.Summary().c_str());
  EXPECT_GT(calls, 5);
}

INSTANTIATE_TEST_SUITE_P(Every, StoreWorksFaults, ::testing::ValuesIn(test::kEveryFault));

TEST_F(StoreWorksTest, AFolderThatAnotherIngestTookIsLeftAlone) {
  auto works = Works(files_);
  const auto planned = works->Plan();
  ASSERT_TRUE(planned);
  works.reset();  // the coordinator dies; somebody ingests with other options meanwhile
  const auto source = OpenSource(dataset_.order->source);
  IngestOptions options = dataset_.order->options;
  options.shards = 3;
  options.quiet = true;
  const auto begun = IngestState::Open(files_, options.out, PlanIngest(*source, options).text, false);
  ASSERT_TRUE(begun);
  const auto held = Works(files_)->Reopen(planned->plan_checksum, false);
  ASSERT_FALSE(held);
  EXPECT_EQ(held.error().code, ErrorCode::kConflict);
}

TEST_F(StoreWorksTest, ASourceThatChangedSinceThePlanIsRefused) {
  auto works = Works(files_);
  const auto planned = works->Plan();
  ASSERT_TRUE(planned);
  works.reset();
  auto other = OpenSynthetic({.classes = 2, .train = 14, .val = 4, .side = 16});
  ASSERT_TRUE(WriteIlsvrc(files_, *other, folder_ / "set"));
  const auto reopened = Works(files_)->Reopen(planned->plan_checksum, false);
  ASSERT_FALSE(reopened);
  EXPECT_EQ(reopened.error().code, ErrorCode::kInvalidInput);
}

}  // namespace
}  // namespace plateau
