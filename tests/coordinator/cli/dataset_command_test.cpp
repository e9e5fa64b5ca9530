// `plateau dataset`: from a synthetic set on disk to a verified store, with exit codes and JSON that programs can rely on.
#include "coordinator/cli/dataset_command.h"

#include <gtest/gtest.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "tests/support/store_files.h"

namespace plateau {
namespace {

using testing::FlipByte;
using testing::TempFolder;

struct Outcome {
  int exit_code = 0;
  std::string out, err;
};

Outcome Plateau(std::vector<std::string> arguments) {
  CLI::App app("plateau");
  Outcome outcome;
  AddDatasetCommand(app, outcome.exit_code);
  arguments.insert(arguments.begin(), "dataset");
  std::reverse(arguments.begin(), arguments.end());
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    outcome.exit_code = app.exit(error) == 0 ? 0 : 2;
  }
  outcome.out = ::testing::internal::GetCapturedStdout();
  outcome.err = ::testing::internal::GetCapturedStderr();
  return outcome;
}

class DatasetCommand : public ::testing::Test {
 protected:
  Outcome Synthesize() {
    return Plateau({"synthesize", "--out", set_, "--classes", "3", "--train", "30", "--val", "6", "--size", "16", "--json"});
  }
  std::vector<std::string> IngestArguments() const {
    return {"ingest",
            "--train",
            set_ + "/train.tar",
            "--val",
            set_ + "/val.tar",
            "--val-labels",
            set_ + "/val.txt",
            "--synsets",
            set_ + "/synset_words.txt",
            "--out",
            store_,
            "--json"};
  }

  TempFolder folder_;
  std::string set_ = folder_ / "set", store_ = folder_ / "store";
};

TEST_F(DatasetCommand, FromSyntheticSetToVerifiedStore) {
  ASSERT_EQ(Synthesize().exit_code, 0);
  const auto ingest = Plateau(IngestArguments());
  ASSERT_EQ(ingest.exit_code, 0) << ingest.err;
  const auto report = nlohmann::json::parse(ingest.out);
  EXPECT_EQ(report.at("name"), "store");
  EXPECT_EQ(report.at("store"), store_);
  EXPECT_EQ(report.at("classes"), 3);
  EXPECT_EQ(report.at("splits").at("train").at("records"), 30);
  EXPECT_EQ(report.at("splits").at("val").at("rejected"), 0);
  EXPECT_EQ(report.at("splits").at("val").at("shards"), 1);
  EXPECT_EQ(report.at("splits").at("val").at("checksum").get<std::string>().size(), 16u);
  EXPECT_TRUE(report.contains("seconds") && report.contains("images_per_s"));
  EXPECT_EQ(ingest.err, "");

  const auto info = Plateau({"info", store_, "--json"});
  ASSERT_EQ(info.exit_code, 0) << info.err;
  EXPECT_EQ(nlohmann::json::parse(info.out).at("splits"), report.at("splits"));
  EXPECT_NE(Plateau({"info", store_}).out.find("30 records"), std::string::npos);

  const auto sound = Plateau({"verify", store_, "--json"});
  EXPECT_EQ(sound.exit_code, 0);
  EXPECT_EQ(nlohmann::json::parse(sound.out).at("sound"), true);
  FlipByte(store_ + "/train/00000/000008.sst", 100);
  const auto damaged = Plateau({"verify", store_, "--json"});
  EXPECT_EQ(damaged.exit_code, 1);
  const auto problem = nlohmann::json::parse(damaged.out).at("problems").at(0);
  EXPECT_EQ(problem.at("shard"), "train/00000");
  EXPECT_EQ(problem.at("file"), "000008.sst");
  EXPECT_GE(problem.at("records").size(), 1u);
  const auto text = Plateau({"verify", store_});
  EXPECT_NE(text.out.find("train/00000/000008.sst"), std::string::npos);
  EXPECT_NE(text.out.find("source ordinal"), std::string::npos);
}

TEST_F(DatasetCommand, InputErrorsExitWithTwoAndConflictsWithOne) {
  ASSERT_EQ(Synthesize().exit_code, 0);
  auto arguments = IngestArguments();
  arguments[2] = set_ + "/none.tar";
  const auto missing = Plateau(arguments);
  EXPECT_EQ(missing.exit_code, 2);
  EXPECT_NE(missing.err.find("none.tar"), std::string::npos) << missing.err;
  EXPECT_EQ(missing.out, "");
  EXPECT_FALSE(std::filesystem::exists(store_));

  EXPECT_EQ(Plateau({"ingest", "--train", set_, "--val", set_, "--out", store_}).exit_code, 2);  // ilsvrc without labels
  EXPECT_EQ(Plateau({"ingest", "--layout", "cifar", "--train", set_, "--val", set_, "--out", store_}).exit_code, 2);
  EXPECT_EQ(Plateau({"info", folder_ / "nothing"}).exit_code, 2);
  EXPECT_EQ(Plateau({"verify", folder_ / "nothing"}).exit_code, 2);

  ASSERT_EQ(Plateau(IngestArguments()).exit_code, 0);
  const auto again = Plateau(IngestArguments());
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_NE(again.err.find("--overwrite"), std::string::npos);
  arguments = IngestArguments();
  arguments.push_back("--overwrite");
  EXPECT_EQ(Plateau(arguments).exit_code, 0);
}

TEST_F(DatasetCommand, SynthesizeMakesFoldersAndStoresAndRefusesToMix) {
  ASSERT_EQ(Synthesize().exit_code, 0);
  EXPECT_EQ(Synthesize().exit_code, 1);  // not empty
  const auto store =
      Plateau({"synthesize", "--out", store_, "--format", "store", "--train", "8", "--val", "4", "--size", "16", "--json"});
  ASSERT_EQ(store.exit_code, 0) << store.err;
  EXPECT_EQ(nlohmann::json::parse(store.out).at("splits").at("train").at("records"), 8);
  const std::string folders = folder_ / "folders";
  ASSERT_EQ(Plateau({"synthesize", "--out", folders, "--format", "folder", "--train", "8", "--val", "2", "--size", "16"}).exit_code,
            0);
  const auto ingest = Plateau({"ingest", "--layout", "folder", "--train", folders + "/train", "--val", folders + "/val", "--out",
                               folder_ / "folder-store", "--max-rejected", "0"});
  EXPECT_EQ(ingest.exit_code, 0) << ingest.err;  // two of the four classes have no validation images
  EXPECT_NE(ingest.out.find("8 records, 0 rejected"), std::string::npos) << ingest.out;
}

}  // namespace
}  // namespace plateau
