// Every file call of a shard commit and of a small ingest goes wrong once, in every way; the next start always ends with the same
// content.
#include <gtest/gtest.h>

#include "dataset/ingest.h"
#include "dataset/ingest_plan.h"
#include "dataset/ingest_state.h"
#include "dataset/shard_reader.h"
#include "dataset/verify.h"
#include "tests/support/faulty_files.h"
#include "tests/support/store_files.h"

namespace plateau {
namespace {

using test::FaultName;
using test::FaultyFiles;
using testing::MakeMemorySource;
using testing::TempFolder;

IngestOptions Options(const std::string& out) {
  IngestOptions options;
  options.out = out;
  options.quiet = true;
  options.shards = 1;
  return options;
}

class IngestFaults : public ::testing::TestWithParam<test::Fault> {
 protected:
  // The content checksums of the store in `out`, after a check of every file and record.
  std::string Content(const std::string& out) {
    PosixFileSystem files;
    const auto verified = VerifyStore(files, clock_, out, 1, true);
    if (!verified) return verified.error().message;
    if (!verified->problems.empty()) return verified->problems.front().what;
    const auto manifest = LoadManifest(files, out);
    return manifest ? manifest->splits[0].checksum + " " + manifest->splits[1].checksum : manifest.error().message;
  }

  // One image is bad, so that rejected.jsonl has a line.
  DataSource Source() const {
    DataSource source = MakeMemorySource(5, 2);
    testing::Memory(source, 0).Add("bad.JPEG", 0, "no image");
    return source;
  }
  static IngestOptions Tolerant(const std::string& out) {
    IngestOptions options = Options(out);
    options.max_rejected.count = 1;
    return options;
  }

  const SystemClock clock_;
};

TEST_P(IngestFaults, AfterAnyCallOfAnIngestTheNextStartEndsWithTheSameContent) {
  const DataSource source = Source();
  const TempFolder folder(test::FastFolder());  // RocksDB syncs thousands of times
  FaultyFiles files;
  ASSERT_TRUE(Ingest(files, clock_, source, Tolerant(folder / "right")));
  const std::string right = Content(folder / "right"), summary = files.Summary();
  const int calls = files.operations;
  std::printf("%s: an ingest of two shards makes %s\n", FaultName(GetParam()), summary.c_str());
  int finished_before_the_fault = 0;
  for (int call = 0; call < calls; ++call) {
    const std::string out = folder / ("store" + std::to_string(call));
    files.Arm(call, GetParam());
    const auto disturbed = Ingest(files, clock_, source, Tolerant(out));
    ASSERT_TRUE(files.reached());
    const std::string what = files.calls[static_cast<size_t>(call)];
    EXPECT_FALSE(disturbed) << what;
    files.Arm(-1, GetParam());
    const bool published = std::filesystem::exists(out + "/manifest.json");
    const auto next = Ingest(files, clock_, source, Tolerant(out));
    if (!next) {  // the fault hit what comes behind the manifest; nothing is left to do
      ++finished_before_the_fault;
      EXPECT_TRUE(published) << what << ": " << next.error().message;
      EXPECT_EQ(next.error().code, ErrorCode::kConflict) << what << ": " << next.error().message;
    }
    EXPECT_EQ(Content(out), right) << what;
    for (const auto& entry : std::filesystem::directory_iterator(out)) {
      const std::string name = entry.path().filename().string();
      EXPECT_TRUE(name == "train" || name == "val" || name == "manifest.json" || name == "rejected.jsonl") << what << ": " << name;
    }
    std::filesystem::remove_all(out);
  }
  EXPECT_LE(finished_before_the_fault, 4);  // from the rename of the manifest on
}

TEST_P(IngestFaults, AfterAnyCallOfAShardCommitTheShardIsWholeOrAbsentAndTheNextCommitHolds) {
  const DataSource source = Source();
  const TempFolder folder(test::FastFolder());  // RocksDB syncs thousands of times
  FaultyFiles files;
  const auto commit = [&](IngestState& state, const IngestPlan& plan) -> Result<ShardResult> {
    const TaskPlan& task = plan.tasks[0];
    const std::string building = state.BuildingFolder(task.folder);
    PLATEAU_ASSIGN(auto result, BuildShard(files, plan.Task(0, building), [](const RejectedImage*) { return Status(); }));
    PLATEAU_TRY(state.Save(task.folder, building, result));
    return result;
  };
  int calls = 1;
  std::string right;
  for (int call = -1; call < calls; ++call) {  // first without a fault
    const std::string out = folder / ("store" + std::to_string(call + 1));
    const IngestPlan plan = PlanIngest(source, Options(out));
    const std::string& shard = plan.tasks[0].folder;
    files.Arm(-1, GetParam());
    {
      const auto state = IngestState::Open(files, out, plan.text, false);
      ASSERT_TRUE(state) << state.error().message;
      files.Arm(call, GetParam());
      const auto committed = commit(**state, plan);
      if (call < 0) {
        ASSERT_TRUE(committed) << committed.error().message;
        calls = files.operations;
        right = committed->info.checksum;
        std::printf("%s: a shard commit makes %s\n", FaultName(GetParam()), files.Summary().c_str());
        continue;
      }
      ASSERT_TRUE(files.reached());
      EXPECT_FALSE(committed) << files.calls[static_cast<size_t>(call)];
    }
    const std::string what = files.calls[static_cast<size_t>(call)];
    files.Arm(-1, GetParam());
    const auto state = IngestState::Open(files, out, plan.text, false);
    ASSERT_TRUE(state) << what << ": " << state.error().message;
    if (const auto kept = (*state)->Load(shard)) {
      EXPECT_EQ(kept->info.checksum, right) << what;
    }
    ASSERT_TRUE(commit(**state, plan)) << what;
    const auto kept = (*state)->Load(shard);
    ASSERT_TRUE(kept) << what;
    EXPECT_EQ(kept->info.checksum, right) << what;
    EXPECT_EQ(kept->rejected.size(), 1u);
  }
}

INSTANTIATE_TEST_SUITE_P(Every, IngestFaults, ::testing::ValuesIn(test::kEveryFault), [](const auto& fault) {
  std::string name = FaultName(fault.param);
  std::erase(name, ' ');
  return name;
});

}  // namespace
}  // namespace plateau
