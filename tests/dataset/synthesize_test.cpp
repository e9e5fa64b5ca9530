// The synthetic set: deterministic, balanced, the same through tars as through a store, and told apart by shape and texture.
#include "dataset/synthesize.h"

#include <map>
#include <set>

#include <gtest/gtest.h>

#include "dataset/ingest.h"
#include "dataset/readers/folder.h"
#include "dataset/readers/ilsvrc.h"
#include "dataset/readers/synthetic.h"
#include "tests/support/store_files.h"

namespace plateau {
namespace {

using testing::ReadText;
using testing::TempFolder;

SynthesizeOptions Small() { return {.classes = 4, .train = 22, .val = 9, .side = 24, .seed = 3}; }

Result<DataSource> OpenTars(const TempFolder& folder, const std::string& name) {
  return OpenIlsvrc({folder / (name + "/train.tar"), folder / (name + "/val.tar"), folder / (name + "/val.txt"),
                     folder / (name + "/synset_words.txt")});
}

TEST(Synthesize, SameOptionsGiveTheSameBytes) {
  const TempFolder folder;
  PosixFileSystem files;
  for (const char* name : {"a", "b"}) {
    const auto source = OpenSynthetic(Small());
    ASSERT_TRUE(source);
    const auto written = WriteIlsvrc(files, *source, folder / name);
    ASSERT_TRUE(written) << written.error().message;
  }
  auto other_options = Small();
  other_options.seed = 4;
  ASSERT_TRUE(WriteIlsvrc(files, *OpenSynthetic(other_options), folder / "c"));
  for (const char* file : {"/train.tar", "/val.tar", "/val.txt", "/synset_words.txt"}) {
    EXPECT_FALSE(ReadText(folder / "a" + file).empty());
    EXPECT_EQ(ReadText(folder / "a" + file), ReadText(folder / "b" + file)) << file;
  }
  EXPECT_NE(ReadText(folder / "a/train.tar"), ReadText(folder / "c/train.tar"));
}

TEST(Synthesize, ClassesAreBalancedAndValIsMixed) {
  const auto source = OpenSynthetic(Small());
  ASSERT_TRUE(source);
  for (const auto& split : source->splits) {
    std::map<int32_t, int> counts;
    int changes = 0;
    for (size_t i = 0; i < split->images().size(); ++i) {
      ++counts[split->images()[i].label];
      changes += i > 0 && split->images()[i].label != split->images()[i - 1].label;
    }
    ASSERT_EQ(counts.size(), 4u);
    for (const auto& [label, count] : counts) {
      EXPECT_GE(count, static_cast<int>(split->images().size()) / 4);
      EXPECT_LE(count, static_cast<int>(split->images().size()) / 4 + 1);
    }
    EXPECT_EQ(changes > 3, split->split() == "val");
  }
}

TEST(Synthesize, ThroughTarsAndDirectlyTheStoreIsTheSame) {
  const TempFolder folder;
  PosixFileSystem files;
  const SystemClock clock;
  const auto direct = OpenSynthetic(Small());
  ASSERT_TRUE(direct);
  ASSERT_TRUE(WriteIlsvrc(files, *direct, folder / "tars"));
  const auto tars = OpenTars(folder, "tars");
  ASSERT_TRUE(tars) << tars.error().message;
  IngestOptions options;
  options.quiet = true;
  options.out = folder / "direct-store";
  const auto first = Ingest(files, clock, *direct, options);
  options.out = folder / "tar-store";
  const auto second = Ingest(files, clock, *tars, options);
  ASSERT_TRUE(first && second);
  for (size_t split = 0; split < 2; ++split) {
    EXPECT_EQ(first->manifest.splits[split].checksum, second->manifest.splits[split].checksum);
    EXPECT_TRUE(first->manifest.splits[split].rejected.empty());
  }
  EXPECT_EQ(first->manifest.moments.covariance_eigenvectors, second->manifest.moments.covariance_eigenvectors);
}

TEST(Synthesize, FoldersHoldTheSameImages) {
  const TempFolder folder;
  PosixFileSystem files;
  const auto source = OpenSynthetic(Small());
  ASSERT_TRUE(source);
  ASSERT_TRUE(WriteFolders(files, *source, folder / "set"));
  const auto folders = OpenFolder({folder / "set/train", folder / "set/val", folder / "set/synset_words.txt"});
  ASSERT_TRUE(folders) << folders.error().message;
  for (size_t split = 0; split < 2; ++split) {
    std::set<std::pair<int32_t, std::string>> written, read;
    std::string bytes;
    for (uint64_t i = 0; i < source->splits[split]->images().size(); ++i) {
      ASSERT_TRUE(source->splits[split]->Read(i, bytes));
      written.emplace(source->splits[split]->images()[i].label, bytes);
      ASSERT_TRUE(folders->splits[split]->Read(i, bytes));
      read.emplace(folders->splits[split]->images()[i].label, bytes);
    }
    EXPECT_EQ(written, read);
  }
}

TEST(Synthesize, AnyNumberOfClassesHasDistinctNames) {
  for (const int classes : {2, 3, 4, 7, 20, 21, 160, 161, 1000, kSyntheticClasses}) {
    std::set<std::string> words;
    for (int label = 0; label < classes; ++label) words.insert(SyntheticClass(label, classes).words);
    EXPECT_EQ(words.size(), static_cast<size_t>(classes));
  }
}

// How much brightness changes from row to row inside the middle of the image, relative to column to column.
double StripeRatio(const Image& image) {
  double down = 0, across = 0;
  const auto at = [&](int x, int y) {
    return static_cast<double>(image.pixels[3 * (static_cast<size_t>(y) * image.width + x) + 1]);
  };
  for (int y = image.height * 3 / 8; y < image.height * 5 / 8; ++y)
    for (int x = image.width * 3 / 8; x < image.width * 5 / 8; ++x) {
      down += std::abs(at(x, y + 1) - at(x, y));
      across += std::abs(at(x + 1, y) - at(x, y));
    }
  return down / across;
}

TEST(Synthesize, TextureCanBeSeenInThePixels) {
  int right = 0;
  Image image;
  for (uint64_t i = 0; i < 100; ++i) {
    const int label = static_cast<int>(i % 2);  // 0: level stripes, 1: upright
    DrawSynthetic(label, 4, 64, 1, 0, i, image);
    EXPECT_EQ(std::min(image.width, image.height), 64);
    right += (StripeRatio(image) > 1) == (label == 0);
  }
  EXPECT_GE(right, 90);
}

TEST(Synthesize, ImpossibleOptionsAreRefused) {
  const auto refused = [](auto change) {
    SynthesizeOptions options = Small();
    change(options);
    return !OpenSynthetic(options).has_value();
  };
  EXPECT_FALSE(refused([](auto&) {}));
  EXPECT_TRUE(refused([](auto& o) { o.classes = 1; }));
  EXPECT_TRUE(refused([](auto& o) { o.classes = kSyntheticClasses + 1; }));
  EXPECT_TRUE(refused([](auto& o) { o.train = 3; }));
  EXPECT_TRUE(refused([](auto& o) { o.val = 0; }));
  EXPECT_TRUE(refused([](auto& o) { o.side = 7; }));
}

}  // namespace
}  // namespace plateau
