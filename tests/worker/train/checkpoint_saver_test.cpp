// Checkpoints in the background: the same bits as in the foreground, one at a time, and their faults are heard.
#include "worker/train/checkpoint_saver.h"

#include <condition_variable>
#include <limits>
#include <mutex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fake_parameters.h"
#include "tests/support/faulty_files.h"
#include "tests/support/polling.h"
#include "tests/support/temp_folder.h"

namespace plateau {
namespace {

// Remembers what was published, in order.
class RecordingAuthority final : public Authority {
 public:
  Result<LrOutcome> Decide(const ValidationReport&, double, const LrState&) override { return LrOutcome{}; }
  int64_t CheckpointOrder() const override { return 0; }
  Status Publish(const WrittenCheckpoint& written, const CheckpointState& state, bool final, int64_t order) override {
    const std::lock_guard lock(mutex);
    published.push_back(fmt::format("{}{}", state.train.step, final ? " final" : ""));
    folders.push_back(written.folder);
    orders.push_back(order);
    return {};
  }
  void Report(const Metrics&) override {}
  Status Finish(const Finished&) override { return {}; }

  std::mutex mutex;
  std::vector<std::string> published, folders;
  std::vector<int64_t> orders;
};

// Holds every Create back until it is opened.
class GatedFiles final : public FileSystem {
 public:
  void Open() {
    {
      const std::lock_guard lock(mutex_);
      open_ = true;
    }
    opened_.notify_all();
  }
  Result<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    std::unique_lock lock(mutex_);
    opened_.wait(lock, [this] { return open_; });
    return files_.Create(path);
  }
  Result<std::string> Read(const std::string& path) override { return files_.Read(path); }
  Status Rename(const std::string& from, const std::string& to) override { return files_.Rename(from, to); }
  Status Remove(const std::string& path) override { return files_.Remove(path); }
  Status RemoveAll(const std::string& path) override { return files_.RemoveAll(path); }
  Status MakeDirectories(const std::string& path) override { return files_.MakeDirectories(path); }
  Status SyncDirectory(const std::string& path) override { return files_.SyncDirectory(path); }
  Result<std::vector<std::string>> List(const std::string& path) override { return files_.List(path); }
  bool Exists(const std::string& path) override { return files_.Exists(path); }
  Result<uint64_t> Size(const std::string& path) override { return files_.Size(path); }
  test::FaultyFiles files_;  // never fails; names the calls

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool open_ = false;
};

class Saver : public ::testing::Test {
 protected:
  static CheckpointState At(int64_t step) {
    CheckpointState state;
    state.identity.spec_json = R"({"reproducibility":{"seed":1}})";
    state.identity.images = 100;
    state.train.step = step;
    return state;
  }
  // What the step's update does to the parameters.
  void Update(float to) {
    for (int p = 0; p < parameters_.count(); ++p)
      for (const auto values : {parameters_.weight(p), parameters_.momentum(p)}) {
        std::fill(values.begin(), values.end(), to);
        values[0] = to + static_cast<float>(p);
      }
  }
  CheckpointSaver Make(FileSystem& files, const std::string& folder) {
    return {files, folder_.path() + folder, authority_, parameters_, 1, pulse_};
  }
  std::string Content(const std::string& folder) {
    std::string all;
    for (const char* name : {"model.safetensors", "momentum.safetensors", "state.json", "manifest.json"})
      all += *sound_.Read(folder + "/" + name);
    return all;
  }

  test::TempFolder folder_;
  test::FaultyFiles sound_;
  test::FakeParameters parameters_{test::ChainInfos(3)};
  RecordingAuthority authority_;
  Pulse pulse_;
};

TEST_F(Saver, TheBitsOfABackgroundCheckpointAreThoseOfAForegroundOne) {
  GatedFiles gated;
  auto background = Make(gated, "/background");
  auto foreground = Make(sound_, "/foreground");
  Update(1.5F);
  ASSERT_TRUE(foreground.SaveNow(At(1), false));
  ASSERT_TRUE(background.Save(At(1)));
  Update(-7);  // training goes on before a byte is written
  EXPECT_TRUE(background.writing());
  gated.Open();
  ASSERT_TRUE(background.Wait());
  ASSERT_EQ(authority_.folders.size(), 2u);
  EXPECT_TRUE(Content(authority_.folders[0]) == Content(authority_.folders[1]));
}

TEST_F(Saver, ASecondOneWaitsForTheFirst) {
  GatedFiles gated;
  auto saver = Make(gated, "/attempt-1");
  ASSERT_TRUE(saver.Save(At(1)));
  auto second = std::async(std::launch::async, [&] { return saver.Save(At(2)).has_value(); });
  gated.Open();
  EXPECT_TRUE(second.get());
  ASSERT_TRUE(saver.SaveNow(At(3), true, 7));  // waits too, and is published on return
  EXPECT_THAT(authority_.published, ::testing::ElementsAre("1", "2", "3 final"));
  EXPECT_THAT(authority_.orders, ::testing::ElementsAre(0, 0, 7));
  std::vector<std::string> order;  // steps in the order of their calls, neighbours merged
  for (const std::string& call : gated.files_.calls) {
    const size_t at = call.find("step-");
    if (at == std::string::npos) continue;
    const std::string step = call.substr(at + 5, 9);
    if (order.empty() || order.back() != step) order.push_back(step);
  }
  EXPECT_THAT(order, ::testing::ElementsAre("000000001", "000000002", "000000003"));
}

TEST_F(Saver, AFaultInTheBackgroundIsHeardOnceAndNothingIsPublished) {
  test::FaultyFiles files;
  files.Arm(5, test::Fault::kFail);
  auto saver = Make(files, "/attempt-1");
  ASSERT_TRUE(saver.Save(At(1)));
  EXPECT_TRUE(test::Eventually([&] { return saver.failed(); }));
  const auto next = saver.Save(At(2));
  ASSERT_FALSE(next);
  EXPECT_THAT(next.error().message, ::testing::HasSubstr("checkpoint of step 1 was not written"));
  EXPECT_TRUE(saver.Wait()) << "told already";
  EXPECT_THAT(authority_.published, ::testing::IsEmpty());
}

TEST_F(Saver, ValuesThatAreNotFiniteAreNumericFaults) {
  auto saver = Make(sound_, "/attempt-1");
  parameters_.weight(0)[2] = std::numeric_limits<float>::quiet_NaN();
  ASSERT_TRUE(saver.Save(At(1)));
  const Status written = saver.Wait();
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::kNumeric);
  EXPECT_THAT(authority_.published, ::testing::IsEmpty());
}

}  // namespace
}  // namespace plateau
