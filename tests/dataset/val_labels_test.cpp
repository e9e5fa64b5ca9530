// Labels of validation images: the three forms are told apart by their content, and what is not certain is refused with a remedy.
#include "dataset/readers/val_labels.h"

#include <gmock/gmock.h>

#include "dataset/source_spec.h"
#include "tests/support/store_files.h"

namespace plateau {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::MakeTar;
using testing::TempFolder;
using testing::WriteText;

// In alphabetical order, as in synset_words.txt.
const std::vector<ClassInfo> kClasses = {
    {"n01440764", "tench"}, {"n01443537", "goldfish"}, {"n02100735", "English setter"}, {"n02119789", "kit fox"}};
// The order of the devkit, with an inner node behind the classes.
constexpr const char* kDevkit = "n02119789\nn02100735 English setter\nn01440764\nn01443537\nn00001740 entity\n";

class ValLabelsTest : public ::testing::Test {
 protected:
  // The labels of `names`, or the error's message in its place.
  std::vector<std::string> Labels(const std::string& text, const std::vector<std::string>& names, const std::string& devkit = "") {
    WriteText(folder_ / "labels", text);
    if (!devkit.empty()) WriteText(folder_ / "devkit.txt", devkit);
    const auto read =
        ValLabels::Read({folder_ / "labels", devkit.empty() ? "" : folder_ / "devkit.txt", "synset_words.txt"}, kClasses);
    if (!read) return {read.error().message};
    std::vector<SourceImage> images;
    for (const auto& name : names) images.push_back({name, 0, 0, -1});
    if (const auto applied = read->Apply("val.tar", images); !applied) return {applied.error().message};
    std::vector<std::string> labels;
    for (const auto& image : images) labels.push_back(std::to_string(image.label));
    return labels;
  }
  std::string Message(const std::string& text, const std::vector<std::string>& names, const std::string& devkit = "") {
    return Labels(text, names, devkit).front();
  }
  TempFolder folder_;
};

TEST_F(ValLabelsTest, CaffesLinesGoByName) {
  EXPECT_THAT(Labels("a.JPEG 3\nb.JPEG 0\n", {"val/b.JPEG", "a.JPEG"}), ElementsAre("0", "3"));
  EXPECT_THAT(Labels("a,b.JPEG 3\n", {"a,b.JPEG"}), ElementsAre("3"));  // a comma makes no Kaggle file
}

TEST_F(ValLabelsTest, GroundTruthGoesBySortedNamesAndTheDevkitsOrder) {
  EXPECT_THAT(Labels("1\n2\n3\n4\n", {"v_4.JPEG", "v_2.JPEG", "v_1.JPEG", "v_3.JPEG"}, kDevkit), ElementsAre("1", "2", "3", "0"));
}

TEST_F(ValLabelsTest, GroundTruthWithoutTheDevkitsOrderIsRefused) {
  const std::string message = Message("1\n2\n", {"a", "b"});
  EXPECT_THAT(message, HasSubstr("order of its own"));
  EXPECT_THAT(message, HasSubstr("--devkit-synsets FILE"));
  EXPECT_THAT(message, HasSubstr("meta.mat"));
}

TEST_F(ValLabelsTest, TheAlphabeticalListIsNotTakenForTheDevkits) {
  const std::string message = Message("1\n", {"a"}, "n01440764\nn01443537\nn02100735\nn02119789\n");
  EXPECT_THAT(message, HasSubstr("alphabetical order"));
  EXPECT_THAT(message, HasSubstr("begins with n02119789"));
}

TEST_F(ValLabelsTest, BadGroundTruthIsNamedByLine) {
  EXPECT_THAT(Message("1\n6\n", {"a", "b"}, kDevkit), HasSubstr("labels:2: id 6 is outside 1..5"));
  EXPECT_THAT(Message("1\n0\n", {"a", "b"}, kDevkit), HasSubstr("labels:2: id 0 is outside 1..5"));
  EXPECT_THAT(Message("1\nb 2\n", {"a", "b"}, kDevkit), HasSubstr("labels:2: \"b 2\" is no id"));
  EXPECT_THAT(Message("5\n", {"a"}, kDevkit), HasSubstr("labels:1: id 5 is a synset of"));
  EXPECT_THAT(Message("1\n2\n3\n", {"a", "b"}, kDevkit), HasSubstr("3 ids for the 2 images of val.tar"));
  EXPECT_THAT(Message("1\n2\n", {"x/a", "y/a"}, kDevkit), HasSubstr("two images are named a"));
  EXPECT_THAT(Message("1\n", {"a"}, "n02119789\nn01440764\nn02119789\n"),
              HasSubstr("devkit.txt:3: synset n02119789 stands already on line 1"));
  EXPECT_THAT(Message("a.JPEG 1\n", {"a.JPEG"}, kDevkit), HasSubstr("leave the option out"));
}

TEST_F(ValLabelsTest, KagglesBoxesGiveTheirClass) {
  const std::string text =
      "ImageId,PredictionString\r\n"
      "v_2,n02119789 85 1 499 272 \r\n"
      "v_1,n01443537 0 14 216 299 n01443537 3 4 5 6\r\n";
  EXPECT_THAT(Labels(text, {"v_1.JPEG", "sub/v_2.JPEG"}), ElementsAre("1", "3"));
}

TEST_F(ValLabelsTest, BadKaggleLinesAreNamed) {
  const auto with = [&](const std::string& line) { return Message("ImageId,PredictionString\n" + line + "\n", {"v_1.JPEG"}); };
  EXPECT_THAT(with("v_1,n01443537 1 2 3 4 n01440764 1 2 3 4"), HasSubstr("labels:2: boxes of n01443537 and of n01440764"));
  EXPECT_THAT(with("v_1,n01443537 1 2 3"), HasSubstr("labels:2: 4 fields"));
  EXPECT_THAT(with("v_1,"), HasSubstr("labels:2: 0 fields"));
  EXPECT_THAT(with("v_1,n01443537 1 2 x 4"), HasSubstr("\"x\" is no coordinate"));
  EXPECT_THAT(with("v_1,n01443538 1 2 3 4"),
              HasSubstr("labels:2: synset n01443538 is not in synset_words.txt (nearest: n01443537)"));
  EXPECT_THAT(with("v_1 n01443537 1 2 3 4"), HasSubstr("is not `ImageId,PredictionString`"));
  EXPECT_THAT(with("v_1,n01443537 1 2 3 4\nv_1,n01443537 1 2 3 4"), HasSubstr("labels:3: v_1 is labelled a second time"));
  EXPECT_THAT(with("v_2,n01443537 1 2 3 4"), HasSubstr("the first image without a label is v_1.JPEG"));
  EXPECT_THAT(Message("v_1,n01443537 85 1 499 2\n", {"v_1.JPEG"}), HasSubstr("without its first line"));
  EXPECT_THAT(Message("\n\n", {"a"}), HasSubstr("holds no labels"));
}

// The same images and labels in every form give the same source.
TEST_F(ValLabelsTest, EveryFormOpensTheSameSourceFromTarAndFromFolder) {
  WriteText(folder_ / "train.tar", MakeTar({{"n02119789.tar", MakeTar({{"t.JPEG", "fox"}})}}));
  WriteText(folder_ / "val.tar", MakeTar({{"v_2.JPEG", "two"}, {"v_1.JPEG", "one"}}));
  WriteText(folder_ / "val/v_1.JPEG", "one");
  WriteText(folder_ / "val/v_2.JPEG", "two");
  WriteText(folder_ / "train/n02119789/t.JPEG", "fox");
  WriteText(folder_ / "words", "n01440764 tench\nn01443537 goldfish\nn02100735 English setter\nn02119789 kit fox\n");
  WriteText(folder_ / "devkit", kDevkit);
  WriteText(folder_ / "val.txt", "v_1.JPEG 3\nv_2.JPEG 1\n");
  WriteText(folder_ / "truth.txt", "1\n4\n");
  WriteText(folder_ / "kaggle.csv", "ImageId,PredictionString\nv_1,n02119789 1 2 3 4\nv_2,n01443537 1 2 3 4\n");
  for (const char* labels : {"val.txt", "truth.txt", "kaggle.csv"})
    for (const bool tar : {true, false}) {
      SourceSpec spec;
      spec.layout = tar ? "ilsvrc" : "folder";
      spec.train = folder_ / (tar ? "train.tar" : "train");
      spec.val = folder_ / (tar ? "val.tar" : "val");
      spec.val_labels = folder_ / labels;
      spec.synsets = folder_ / "words";
      if (labels == std::string("truth.txt")) spec.devkit_synsets = folder_ / "devkit";
      const auto source = OpenSource(spec);
      ASSERT_TRUE(source) << labels << ": " << source.error().message;
      const auto& val = *source->splits[1];
      ASSERT_EQ(val.images().size(), 2u);
      for (const auto& image : val.images()) EXPECT_EQ(image.label, image.name == "v_1.JPEG" ? 3 : 1) << labels;
    }
}

}  // namespace
}  // namespace plateau
