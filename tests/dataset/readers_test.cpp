// Readers: tars of every dialect read in place, label files, class folders, and clear refusals.
#include <algorithm>

#include <gtest/gtest.h>

#include "dataset/readers/folder.h"
#include "dataset/readers/ilsvrc.h"
#include "dataset/readers/label_file.h"
#include "tests/support/store_files.h"

namespace plateau {
namespace {

using testing::MakeTar;
using testing::TarFiles;
using testing::TempFolder;
using testing::WriteText;

std::string Bytes(size_t count, char first) {
  std::string bytes(count, first);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<char>(first + static_cast<char>(i % 7));
  return bytes;
}

// A small ILSVRC set on disk; a test changes what it needs before Open().
struct Ilsvrc {
  TempFolder folder;
  TarFiles first{{"n01_1.JPEG", Bytes(700, 'a')}, {"n01_2.JPEG", Bytes(512, 'b')}, {"n01_3.JPEG", ""}};
  TarFiles second{{"n02_9.JPEG", Bytes(1, 'c')}, {"n02_4.JPEG", Bytes(5000, 'd')}};
  TarFiles val{{"val_1.JPEG", Bytes(10, 'e')}, {"val_2.JPEG", Bytes(1024, 'f')}};
  std::string labels = "val_2.JPEG 0\nval_1.JPEG 1\n", synsets = "n01 alligator, gator\nn02 snail\n", format = "ustar";

  // Tars as text: train, val.
  std::string Train() const { return MakeTar({{"n02.tar", MakeTar(second, format)}, {"n01.tar", MakeTar(first, format)}}, format); }
  std::string Val() const { return MakeTar(val, format); }
  Result<DataSource> Open(const std::string& train_bytes, const std::string& val_bytes) const {
    WriteText(folder / "train.tar", train_bytes);
    WriteText(folder / "val.tar", val_bytes);
    return OpenFiles();
  }
  Result<DataSource> OpenFiles() const {
    WriteText(folder / "val.txt", labels);
    WriteText(folder / "synset_words.txt", synsets);
    return OpenIlsvrc({folder / "train.tar", folder / "val.tar", folder / "val.txt", folder / "synset_words.txt"});
  }
  Result<DataSource> Open() const { return Open(Train(), Val()); }
  // The error's text, or "opened".
  std::string Message() const {
    const auto source = Open();
    return source ? "opened" : source.error().message;
  }
};

std::string ReadImage(const ImageSource& source, uint64_t ordinal) {
  std::string bytes;
  const auto status = source.Read(ordinal, bytes);
  EXPECT_TRUE(status) << status.error().message;
  return bytes;
}

class IlsvrcFormat : public ::testing::TestWithParam<const char*> {};

TEST_P(IlsvrcFormat, ImagesComeInTarOrderWithTheirBytesAndLabels) {
  Ilsvrc set;
  set.format = GetParam();
  const bool long_names = set.format != "ustar";
  if (long_names) set.second[1].first = std::string(150, 'x') + "/" + std::string(120, 'n') + ".JPEG";
  set.val[0].first = "./val/val_1.JPEG";
  const auto source = set.Open();
  ASSERT_TRUE(source) << source.error().message;
  ASSERT_EQ(source->classes.size(), 2u);
  EXPECT_EQ(source->classes[0].synset, "n01");
  EXPECT_EQ(source->classes[0].words, "alligator, gator");
  const auto& train = *source->splits[0];
  ASSERT_EQ(train.images().size(), 5u);
  TarFiles expected = set.second;
  expected.insert(expected.end(), set.first.begin(), set.first.end());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(train.images()[i].name, expected[i].first.substr(expected[i].first.rfind('/') + 1));
    EXPECT_EQ(train.images()[i].label, i < 2 ? 1 : 0);
    EXPECT_EQ(ReadImage(train, i), expected[i].second);
  }
  const auto& val = *source->splits[1];
  ASSERT_EQ(val.images().size(), 2u);
  EXPECT_EQ(val.images()[0].label, 1);
  EXPECT_EQ(val.images()[1].label, 0);
  EXPECT_EQ(ReadImage(val, 1), set.val[1].second);
}

INSTANTIATE_TEST_SUITE_P(Dialects, IlsvrcFormat, ::testing::Values("ustar", "gnutar", "pax"));

TEST(Ilsvrc, FoldersInsideTarsArePassedOver) {
  Ilsvrc set;
  set.val.insert(set.val.begin(), {"val/", ""});
  const auto source = set.Open();
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ(source->splits[1]->images().size(), 2u);
}

TEST(Ilsvrc, EveryCutOfATarIsRefusedNamingTheFile) {
  const Ilsvrc set;
  const std::string train = set.Train(), val = set.Val();
  // libarchive pads to 10,240 bytes: what counts is everything before the end marker of two zero blocks.
  const auto content_bytes = [](const std::string& tar) { return (tar.find_last_not_of('\0') / 512 + 1) * 512; };
  for (size_t bytes = 0; bytes <= content_bytes(val); bytes += 256) {
    const auto source = set.Open(train, val.substr(0, bytes));
    ASSERT_FALSE(source) << bytes;
    EXPECT_EQ(source.error().code, ErrorCode::kInvalidInput);
    EXPECT_NE(source.error().message.find("val.tar"), std::string::npos) << source.error().message;
  }
  const size_t train_bytes = 2 * 512 + MakeTar(set.first).size() + MakeTar(set.second).size();
  for (size_t bytes = 0; bytes <= train_bytes; bytes += 1000) {
    const auto source = set.Open(train.substr(0, bytes), val);
    ASSERT_FALSE(source) << bytes;
    EXPECT_NE(source.error().message.find("train.tar"), std::string::npos) << source.error().message;
  }
}

TEST(Ilsvrc, CutInTheMiddleNamesEntryAndOffsets) {
  const Ilsvrc set;
  const std::string train = set.Train();
  const auto source = set.Open(train.substr(0, 12000), set.Val());  // inside n01.tar, behind n02.tar's padding
  ASSERT_FALSE(source);
  EXPECT_NE(source.error().message.find("n01.tar"), std::string::npos) << source.error().message;
  EXPECT_NE(source.error().message.find("ends at offset 12000"), std::string::npos) << source.error().message;
  EXPECT_NE(source.error().message.find("is cut off"), std::string::npos) << source.error().message;
}

TEST(Ilsvrc, DamagedHeaderIsRefused) {
  const Ilsvrc set;
  std::string val = set.Val();
  val[100] ^= 1;
  const auto source = set.Open(set.Train(), val);
  ASSERT_FALSE(source);
  EXPECT_NE(source.error().message.find("val.tar: cannot read a tar header at offset 0"), std::string::npos)
      << source.error().message;
}

TEST(Ilsvrc, MissingFilesAreNamed) {
  const Ilsvrc set;
  for (const char* name : {"train.tar", "val.tar"}) {
    ASSERT_TRUE(set.Open());
    std::filesystem::remove(set.folder / name);
    const auto source = set.OpenFiles();
    ASSERT_FALSE(source);
    EXPECT_EQ(source.error().code, ErrorCode::kNotFound);
    EXPECT_NE(source.error().message.find(name), std::string::npos) << source.error().message;
  }
  const auto source =
      OpenIlsvrc({set.folder / "train.tar", set.folder / "val.tar", set.folder / "val.txt", set.folder / "none.txt"});
  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().code, ErrorCode::kNotFound);
  EXPECT_NE(source.error().message.find("none.txt"), std::string::npos);
}

TEST(Ilsvrc, BadLabelsAreRefusedWithTheirLine) {
  Ilsvrc set;
  const auto with = [&](const std::string& labels) {
    set.labels = labels;
    return set.Message();
  };
  const std::string few = with("val_1.JPEG 1\n");
  EXPECT_NE(few.find("1 labels for the 2 images"), std::string::npos) << few;
  EXPECT_NE(few.find("the first image without a label is val_2.JPEG at offset"), std::string::npos) << few;
  EXPECT_NE(with("val_1.JPEG 1\nval_2.JPEG 2\n").find("val.txt:2: label 2 is outside 0..1"), std::string::npos);
  EXPECT_NE(with("val_1.JPEG -1\n").find("val.txt:1: label -1"), std::string::npos);
  EXPECT_NE(with("val_1.JPEG 1\nval_1.JPEG 1\n").find("val.txt:2: val_1.JPEG is labelled a second time"), std::string::npos);
  EXPECT_NE(with("val_1.JPEG\n").find("val.txt:1: \"val_1.JPEG\" is not `name label`"), std::string::npos);
  EXPECT_NE(with("val_1.JPEG one\n").find("\"one\" is no whole number"), std::string::npos);
  EXPECT_EQ(with("val_1.JPEG\t1\r\n\r\nval_2.JPEG  0\r\n"), "opened");
}

TEST(Ilsvrc, BadSynsetsAreRefused) {
  Ilsvrc set;
  const auto with = [&](const std::string& synsets) {
    set.synsets = synsets;
    return set.Message();
  };
  const std::string unknown = with("n01 alligator\nn03 snail\n");
  EXPECT_NE(unknown.find("n02.tar at offset"), std::string::npos) << unknown;
  EXPECT_NE(unknown.find("synset n02 is not in"), std::string::npos) << unknown;
  EXPECT_NE(with("n01 a\nn01 b\n").find("synset_words.txt:2: synset n01 stands already on line 1"), std::string::npos);
  EXPECT_NE(with("\n\n").find("holds no classes"), std::string::npos);
}

TEST(Ilsvrc, TrainThatIsNoTarOfTarsIsRefused) {
  const Ilsvrc set;
  const auto flat = set.Open(MakeTar({{"n01/a.JPEG", "x"}}), set.Val());
  ASSERT_FALSE(flat);
  EXPECT_NE(flat.error().message.find("--layout folder"), std::string::npos);
  const auto twice = set.Open(MakeTar({{"n01.tar", MakeTar(set.first)}, {"n01.tar", MakeTar(set.first)}}), set.Val());
  ASSERT_FALSE(twice);
  EXPECT_NE(twice.error().message.find("second time"), std::string::npos);
  const auto garbage = set.Open(Bytes(20000, 'g'), set.Val());
  ASSERT_FALSE(garbage);
  EXPECT_NE(garbage.error().message.find("uncompressed tar"), std::string::npos) << garbage.error().message;
}

TEST(Folder, FilesComeSortedByClassThenPath) {
  const TempFolder folder;
  for (const char* name : {"train/b/2.jpg", "train/b/10.jpg", "train/a/z/1.png", "train/a/.hidden", "train/.git/x", "val/b/v.jpg"})
    WriteText(folder / name, name);
  const auto source = OpenFolder({folder / "train/", folder / "val", ""});
  ASSERT_TRUE(source) << source.error().message;
  std::vector<std::string> names;
  std::vector<int32_t> labels;
  for (const auto& image : source->splits[0]->images()) {
    names.push_back(image.name);
    labels.push_back(image.label);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"a/z/1.png", "b/10.jpg", "b/2.jpg"}));
  EXPECT_EQ(labels, (std::vector<int32_t>{0, 1, 1}));
  EXPECT_EQ(ReadImage(*source->splits[0], 1), "train/b/10.jpg");
  EXPECT_EQ(source->splits[1]->images()[0].label, 1);
  EXPECT_EQ(source->classes[1].synset, "b");
}

TEST(Folder, SynsetFileGivesOrderAndWords) {
  const TempFolder folder;
  for (const char* name : {"train/a/1", "train/b/1", "val/a/1"}) WriteText(folder / name, "x");
  WriteText(folder / "words", "b bee\na ay\n");
  const auto source = OpenFolder({folder / "train", folder / "val", folder / "words"});
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ(source->classes[0].words, "bee");
  EXPECT_EQ(source->splits[0]->images()[0].label, 1);  // a
}

TEST(Folder, MissingAndEmptyFoldersAreNamed) {
  const TempFolder folder;
  const auto message = [&] {
    const auto source = OpenFolder({folder / "train", folder / "val", ""});
    return source ? "opened" : source.error().message;
  };
  EXPECT_NE(message().find("train: no such folder"), std::string::npos);
  std::filesystem::create_directories(folder / "train");
  EXPECT_NE(message().find("holds no class folders"), std::string::npos);
  std::filesystem::create_directories(folder / "train/a");
  EXPECT_NE(message().find("train/a: the class folder is empty"), std::string::npos);
  WriteText(folder / "train/a/1", "x");
  WriteText(folder / "val/c/1", "x");
  EXPECT_NE(message().find("class c is not known"), std::string::npos);
}

}  // namespace
}  // namespace plateau
