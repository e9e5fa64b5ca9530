// `plateau dataset`: from a synthetic set on disk to a verified store, with exit codes and JSON that programs can rely on.
#include "coordinator/cli/dataset_command.h"

#include <set>
#include <sstream>

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
  const SystemClock clock;
  CliContext context(clock);
  AddDatasetCommand(app, context);
  arguments.insert(arguments.begin(), "dataset");
  std::reverse(arguments.begin(), arguments.end());
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  try {
    app.parse(arguments);
    outcome.exit_code = context.exit_code;
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

// The validation labels of a set as the devkit and as Kaggle write them.
TEST_F(DatasetCommand, EveryFormOfLabelsGivesTheSameStore) {
  ASSERT_EQ(Synthesize().exit_code, 0);
  std::istringstream words(testing::ReadText(set_ + "/synset_words.txt")), caffe(testing::ReadText(set_ + "/val.txt"));
  std::vector<std::string> synsets;
  for (std::string line; std::getline(words, line);) synsets.push_back(line.substr(0, 9));
  std::string truth, kaggle = "ImageId,PredictionString\n";
  for (std::string name, label; caffe >> name >> label;) {
    truth += std::to_string(synsets.size() - std::stoul(label)) + "\n";  // the devkit's order is the reverse one
    kaggle += name.substr(0, name.find('.')) + "," + synsets[std::stoul(label)] + " 1 2 3 4\n";
  }
  testing::WriteText(set_ + "/truth.txt", truth);
  testing::WriteText(set_ + "/solution.csv", kaggle);
  testing::WriteText(set_ + "/devkit.txt", synsets[2] + "\n" + synsets[1] + "\n" + synsets[0] + "\n");
  std::set<std::string> checksums;
  for (const char* labels : {"/val.txt", "/truth.txt", "/solution.csv"}) {
    auto arguments = IngestArguments();
    arguments[6] = set_ + labels;
    arguments[10] = store_ + std::to_string(checksums.size()) + (labels + 1);
    if (labels == std::string("/truth.txt")) {
      const auto refused = Plateau(arguments);
      EXPECT_EQ(refused.exit_code, 2);
      EXPECT_NE(refused.err.find("--devkit-synsets FILE"), std::string::npos) << refused.err;
      arguments.insert(arguments.end(), {"--devkit-synsets", set_ + "/devkit.txt"});
    }
    const auto ingest = Plateau(arguments);
    ASSERT_EQ(ingest.exit_code, 0) << labels << ": " << ingest.err;
    checksums.insert(nlohmann::json::parse(ingest.out).at("splits").at("val").at("checksum").get<std::string>());
  }
  EXPECT_EQ(checksums.size(), 1u);
}

TEST_F(DatasetCommand, ResizeIsAnOptionAndIsShown) {
  ASSERT_EQ(Plateau({"synthesize", "--out", set_, "--classes", "2", "--train", "4", "--val", "2", "--size", "300"}).exit_code, 0);
  auto arguments = IngestArguments();
  arguments.insert(arguments.end(), {"--resize", "256"});
  const auto ingest = Plateau(arguments);
  ASSERT_EQ(ingest.exit_code, 0) << ingest.err;
  EXPECT_EQ(nlohmann::json::parse(ingest.out).at("converted"), 6);
  EXPECT_EQ(nlohmann::json::parse(Plateau({"info", store_, "--json"}).out).at("resize"), "256");
  EXPECT_NE(Plateau({"info", store_}).out.find("resize 256"), std::string::npos);
  arguments = IngestArguments();
  arguments.insert(arguments.end(), {"--resize", "512"});
  EXPECT_EQ(Plateau(arguments).exit_code, 2);
}

TEST_F(DatasetCommand, IdxFilesBecomeAGrayStore) {
  const std::string zeros(3, 0);
  testing::WriteText(set_ + "/images",
                     zeros.substr(0, 2) + "\x08\x03" + zeros + "\x03" + zeros + "\x02" + zeros + "\x02" + "abcdefghijkl");
  testing::WriteText(set_ + "/labels", zeros.substr(0, 2) + "\x08\x01" + zeros + "\x03" + "\x02\x01" + zeros.substr(0, 1));
  const auto ingest = Plateau({"ingest", "--layout", "mnist", "--images", set_ + "/images", "--labels", set_ + "/labels",
                               "--holdout", "1", "--out", store_, "--json"});
  ASSERT_EQ(ingest.exit_code, 0) << ingest.err;
  const auto report = nlohmann::json::parse(ingest.out);
  EXPECT_EQ(report.at("classes"), 3);
  EXPECT_EQ(report.at("splits").at("train").at("records"), 2);
  EXPECT_EQ(report.at("splits").at("val").at("records"), 1);
  EXPECT_EQ(nlohmann::json::parse(Plateau({"info", store_, "--json"}).out).at("channels"), 1);
  EXPECT_EQ(Plateau({"verify", store_}).exit_code, 0);
  EXPECT_EQ(Plateau({"ingest", "--layout", "mnist", "--images", set_ + "/images", "--out", store_ + "2"}).exit_code, 2);
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
