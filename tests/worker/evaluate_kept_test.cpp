// Which result of an earlier attempt stands for a test that is about to begin.
#include "worker/evaluate_kept.h"

#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/temp_folder.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

class EvaluateKept : public ::testing::Test {
 protected:
  void Leave(int attempt, const Json& result) {
    const std::string folder = Folder() + "/" + EvaluateAttemptFolder(attempt);
    std::filesystem::create_directories(folder);
    ASSERT_TRUE(WriteFileAtomic(files_, folder + "/" + kResultFile, result.dump()));
  }
  // Of the attempt whose result attempt 3 finds; 0: none.
  int Finds(const WantedResult& wanted) { return FindKeptResult(files_, Folder(), 3, wanted).attempt; }
  const std::string& Folder() const { return folder_.path(); }

  const Json left_ = Json::parse(R"json({"version":1,"kind":"evaluate","images":40,"scales":[32,48],"mode":"both","flip":true,
    "checkpoint_checksum":"c","split_checksum":"s","device":"cuda (NVIDIA H200, bf16)","precision":"bf16","posteriors":null})json");
  const WantedResult wanted_{.checkpoint_checksum = "c",
                             .split_checksum = "s",
                             .mode = "both",
                             .scales = {32, 48},
                             .flip = true,
                             .images = 40,
                             .device = "cuda (NVIDIA H200, bf16)",
                             .precision = "bf16"};
  PosixFileSystem files_;
  test::TempFolder folder_;
};

TEST_F(EvaluateKept, TheSameTestOfAnEarlierAttemptStands) {
  EXPECT_EQ(Finds(wanted_), 0);
  Leave(1, left_);
  EXPECT_EQ(Finds(wanted_), 1);
  Leave(2, left_);
  EXPECT_EQ(Finds(wanted_), 2) << "the newest";
  Leave(3, left_);
  EXPECT_EQ(Finds(wanted_), 2) << "its own folder is not looked into";
}

TEST_F(EvaluateKept, AnotherTestDoesNot) {
  Leave(1, left_);
  const auto with = [&](auto change) {
    WantedResult wanted = wanted_;
    change(wanted);
    return Finds(wanted);
  };
  EXPECT_EQ(with([](auto& w) { w.device = "cpu (oneDNN 2.6.3, AVX-512, 2 threads)"; }), 0);
  EXPECT_EQ(with([](auto& w) { w.precision = "fp32"; }), 0);
  EXPECT_EQ(with([](auto& w) { w.checkpoint_checksum = "d"; }), 0);
  EXPECT_EQ(with([](auto& w) { w.split_checksum = "t"; }), 0);
  EXPECT_EQ(with([](auto& w) { w.scales = {32}; }), 0);
  EXPECT_EQ(with([](auto& w) { w.mode = "dense"; }), 0);
  EXPECT_EQ(with([](auto& w) { w.flip = false; }), 0);
  EXPECT_EQ(with([](auto& w) { w.images = 39; }), 0);
  EXPECT_EQ(with([](auto& w) { w.posteriors = true; }), 0) << "there is no file of them";
}

TEST_F(EvaluateKept, OneThatDoesNotSayWhatItWasComputedOnIsNotTaken) {
  for (const char* field : {"device", "precision"}) {
    Json old = left_;
    old.erase(field);
    Leave(1, old);
    EXPECT_EQ(Finds(wanted_), 0) << field;
  }
}

}  // namespace
}  // namespace plateau
