// A report: published figures against the reference, paired differences, verdicts, fusions, and every form of output.
#include "coordinator/report/report.h"

#include <cmath>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/safetensors.h"
#include "coordinator/report/render.h"
#include "tests/support/temp_folder.h"

namespace plateau::test {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Published, EqualsTheReferenceToTheLastFigure) {
  const json reference = json::parse(std::ifstream(PLATEAU_SOURCE_DIR "/tests/reference/vgg_facts.json"));
  ASSERT_EQ(PublishedTables().size(), 5u);
  const auto number = [](const std::optional<double>& value) { return value ? json(*value) : json(nullptr); };
  for (const auto& table : PublishedTables()) {
    json rows = json::array();
    for (const auto& row : table.rows) {
      EXPECT_EQ(row.key.size(), table.key_columns.size());
      json line = row.key;
      line.push_back(number(row.top1));
      line.push_back(row.merged ? json(fmt::format("{:.1f} (val/test merged cell)", *row.top5)) : number(row.top5));
      if (table.number >= 6) line.push_back(number(row.test_top5));
      rows.push_back(std::move(line));
    }
    EXPECT_EQ(rows, reference.at("table" + std::to_string(table.number))) << table.number;
  }
}

// Right on the first `right` of each ten images, `shift` places further round.
Correctness Right(int right, int images, int shift = 0) {
  Correctness out;
  out.split_checksum = "s";
  for (int i = 0; i < images; ++i) {
    out.ordinals.push_back(i);
    out.top1.push_back((i + shift) % 10 < right ? 1 : 0);
    out.top5.push_back(1);
  }
  return out;
}

TEST(Claims, ThePairedIntervalIsThatOfMcNemarsCounts) {
  const auto compared = Compare(Right(5, 1'000), Right(5, 1'000, 2));
  ASSERT_TRUE(compared.has_value());
  EXPECT_EQ(compared->only_first, 200);
  EXPECT_EQ(compared->only_second, 200);
  EXPECT_NEAR(compared->difference.points, 0, 1e-12);
  const auto better = Compare(Right(5, 1'000), Right(7, 1'000));
  EXPECT_EQ(better->only_second, 200);
  EXPECT_NEAR(better->difference.points, 20, 1e-9);
  const double b = 200.5, c = 0.5, n = 1'002;  // half an image in each of the four cells
  const double half = 100 * 1.959963984540054 * std::sqrt(b + c - (b - c) * (b - c) / n) / n;
  EXPECT_NEAR(better->difference.low, 100 * (b - c) / n - half, 1e-9);
  EXPECT_NEAR(better->difference.high, 100 * (b - c) / n + half, 1e-9);
  EXPECT_LT(better->difference.sign_p, 1e-50);
  EXPECT_NEAR(compared->difference.sign_p, 1, 1e-9);
}

TEST(Claims, OtherImagesAreNotCompared) {
  Correctness other = Right(5, 1'000);
  other.ordinals.back() = 7'000;
  EXPECT_FALSE(Compare(Right(5, 1'000), other).has_value());
  other = Right(5, 1'000);
  other.split_checksum = "another";
  EXPECT_FALSE(Compare(Right(5, 1'000), other).has_value());
  EXPECT_FALSE(Compare({}, {}).has_value());
}

// Verdicts where the rows of table 3 are as given and nothing else is there.
std::map<std::string, ClaimVerdict> Verdicts(const std::map<std::vector<std::string>, Correctness>& rows) {
  std::map<std::string, ClaimVerdict> by_name;
  for (auto& verdict : JudgeClaims([&](int table, const std::vector<std::string>& key) -> const Correctness* {
         const auto found = rows.find(key);
         return table != 3 || found == rows.end() ? nullptr : &found->second;
       }))
    by_name[verdict.claim] = verdict;
  return by_name;
}

TEST(Claims, AVerdictNeedsTheWholeInterval) {
  const std::vector<std::string> a{"A", "256", "256"}, e{"E", "256", "256"}, lrn{"A-LRN", "256", "256"};
  auto verdicts = Verdicts({{a, Right(5, 1'000)}, {e, Right(6, 1'000)}, {lrn, Right(5, 1'000)}});
  EXPECT_EQ(verdicts.at("depth helps").verdict, Verdict::kHolds);
  EXPECT_EQ(verdicts.at("depth helps").parts[0].comparisons.size(), 1u);
  EXPECT_THAT(verdicts.at("depth helps").missing, HasSubstr("B, S = 256, Q = 256 against A, S = 256, Q = 256"));
  EXPECT_EQ(verdicts.at("local response normalisation does not help").verdict, Verdict::kHolds);
  EXPECT_EQ(verdicts.at("fusion helps").verdict, Verdict::kUndecided);
  EXPECT_FALSE(verdicts.at("fusion helps").parts[0].together.has_value());
  verdicts = Verdicts({{a, Right(6, 1'000)}, {e, Right(5, 1'000)}, {lrn, Right(7, 1'000)}});
  EXPECT_EQ(verdicts.at("depth helps").verdict, Verdict::kDoesNotHold);
  EXPECT_EQ(verdicts.at("local response normalisation does not help").verdict, Verdict::kDoesNotHold);
  verdicts = Verdicts({{a, Right(5, 100)}, {e, Right(5, 100, 1)}, {lrn, Right(5, 100, 1)}});
  EXPECT_EQ(verdicts.at("depth helps").verdict, Verdict::kUndecided);
  EXPECT_EQ(verdicts.at("local response normalisation does not help").verdict, Verdict::kUndecided) << "the interval reaches beyond the margin";
}

// Nobody right, but on the first `count` images.
Correctness RightOnFirst(int count, int images) {
  Correctness out = Right(0, images);
  std::fill_n(out.top1.begin(), count, uint8_t{1});
  return out;
}

TEST(Claims, FewImagesThatDifferDecideNothing) {
  const std::vector<std::string> a{"A", "256", "256"}, d{"D", "256", "256"}, e{"E", "256", "256"}, lrn{"A-LRN", "256", "256"};
  const auto depth = [&](int count, int images) {
    return Verdicts({{a, RightOnFirst(0, images)}, {e, RightOnFirst(count, images)}}).at("depth helps");
  };
  EXPECT_EQ(depth(4, 1'000).verdict, Verdict::kUndecided);
  EXPECT_EQ(depth(5, 1'000).verdict, Verdict::kUndecided) << "the interval lies above 0, the sign test says 1/16";
  EXPECT_NEAR(depth(5, 1'000).parts[0].together->sign_p, 0.0625, 1e-12);
  EXPECT_EQ(depth(6, 1'000).verdict, Verdict::kHolds) << "1/32";
  EXPECT_EQ(depth(2, 2).verdict, Verdict::kUndecided);
  EXPECT_EQ(Verdicts({{a, RightOnFirst(5, 1'000)}, {e, RightOnFirst(0, 1'000)}}).at("depth helps").verdict, Verdict::kUndecided);
  EXPECT_EQ(Verdicts({{a, RightOnFirst(0, 1'000)}, {d, RightOnFirst(5, 1'000)}, {e, RightOnFirst(5, 1'000)}}).at("depth helps").verdict,
            Verdict::kUndecided) << "two nets on the same five images are five images";
  const auto normalised = [&](int images) {
    return Verdicts({{a, Right(5, images)}, {lrn, Right(5, images)}}).at("local response normalisation does not help");
  };
  EXPECT_EQ(normalised(3).verdict, Verdict::kUndecided);
  EXPECT_NEAR(normalised(3).parts[0].together->high, 100 * 1.959963984540054 / 5, 1e-9);
  EXPECT_EQ(normalised(50'000).verdict, Verdict::kHolds);
  EXPECT_LT(normalised(50'000).parts[0].together->high, 0.01);
}

TEST(Claims, PairsOfOtherImagesAreNotTakenTogether) {
  const std::vector<std::string> c{"C", "384", "384"}, c_jittered{"C", "[256;512]", "384"}, d{"D", "384", "384"}, d_jittered{"D", "[256;512]", "384"};
  auto worse = Right(5, 1'000), better = Right(7, 1'000);
  worse.ordinals.back() = better.ordinals.back() = 7'000;
  const auto claim = Verdicts({{c, Right(5, 1'000)}, {c_jittered, Right(6, 1'000)}, {d, worse}, {d_jittered, better}}).at("scale jitter helps");
  EXPECT_EQ(claim.parts[0].comparisons.size(), 1u);
  EXPECT_NEAR(claim.parts[0].together->points, 10, 1e-9);
  EXPECT_THAT(claim.missing, HasSubstr("D, S = [256;512], Q = 384"));
}

TEST(Claims, TogetherIsEachImagesMean) {
  const std::vector<std::string> a{"A", "256", "256"}, d{"D", "256", "256"}, e{"E", "256", "256"};
  const auto claim = Verdicts({{a, Right(5, 1'000)}, {d, Right(5, 1'000)}, {e, Right(7, 1'000)}}).at("depth helps");
  const auto& together = claim.parts[0].together;
  ASSERT_TRUE(together.has_value());
  EXPECT_NEAR(together->points, 10, 1e-9);
  EXPECT_EQ(together->images, 1'000);
}

TEST(Claims, ACombinationHasToBeatEachOfItsParts) {
  const auto verdict = [](int dense, int crops, int both) {
    std::map<std::string, Correctness> rows{{"dense", Right(dense, 1'000)}, {"multi-crop", Right(crops, 1'000)}, {"multi-crop & dense", Right(both, 1'000)}};
    const auto claims = JudgeClaims([&](int table, const std::vector<std::string>& key) -> const Correctness* {
      return table == 5 && key[0] == "D" ? &rows.at(key[1]) : nullptr;
    });
    EXPECT_EQ(claims[3].parts.size(), 2u);
    return claims[3].verdict;
  };
  EXPECT_EQ(verdict(5, 6, 7), Verdict::kHolds);
  EXPECT_EQ(verdict(5, 7, 7), Verdict::kUndecided) << "crops alone are as good";
  EXPECT_EQ(verdict(5, 8, 7), Verdict::kDoesNotHold) << "crops alone are better";
}

// Posteriors of four images and six classes, written as an evaluation does.
std::string WritePosteriors(const TempFolder& folder, const std::string& name, const std::vector<float>& values, std::vector<int32_t> labels,
                            const std::string& split = "s", const std::string& version = "1") {
  const std::vector<int64_t> ordinals{3, 5, 8, 9};
  const auto bytes = [](const auto& list) { return std::string_view(reinterpret_cast<const char*>(list.data()), list.size() * sizeof(list[0])); };
  const std::vector<NamedTensor> tensors{{"posteriors", {TensorType::kF32, {4, 6}, bytes(values)}},
                                         {"labels", {TensorType::kI32, {4}, bytes(labels)}},
                                         {"ordinals", {TensorType::kI64, {4}, bytes(ordinals)}}};
  PosixFileSystem files;
  const std::string path = folder.path() + "/" + name;
  auto file = files.Create(path);
  EXPECT_TRUE(file.has_value());
  EXPECT_TRUE(WriteSafetensors(**file, tensors, {{"format", "plateau-posteriors"}, {"version", version}, {"split_checksum", split}}).has_value());
  EXPECT_TRUE((*file)->Close().has_value());
  return path;
}

TEST(Posteriors, AreAveragedAndTiesGoToTheLowerClass) {
  const TempFolder folder;
  PosixFileSystem files;
  const std::vector<int32_t> labels{0, 1, 5, 5};
  const std::string one = WritePosteriors(folder, "one", {.9f, .1f, 0, 0, 0, 0, .6f, .4f, 0, 0, 0, 0, .5f, .1f, .1f, .1f, .1f, .1f, 0, 0, 0, 0, .5f, .5f}, labels);
  const std::string two = WritePosteriors(folder, "two", {.9f, .1f, 0, 0, 0, 0, .2f, .8f, 0, 0, 0, 0, .5f, .1f, .1f, .1f, .1f, .1f, 0, 0, 0, 0, .4f, .6f}, labels);
  PosteriorMean alone, both;
  ASSERT_TRUE(alone.Add(files, one).has_value());
  EXPECT_THAT(alone.Judge().top1, ElementsAre(1, 0, 0, 0)) << "a tie goes to class 4";
  EXPECT_THAT(alone.Judge().top5, ElementsAre(1, 1, 0, 1)) << "five classes stand before the last of equals";
  ASSERT_TRUE(both.Add(files, one).has_value());
  ASSERT_TRUE(both.Add(files, two).has_value());
  EXPECT_THAT(both.Judge().top1, ElementsAre(1, 1, 0, 1));
  EXPECT_EQ(both.Judge().Count1(), 3);
  EXPECT_THAT(both.Judge().ordinals, ElementsAre(3, 5, 8, 9));
  const std::vector<float> even(24, 1.f / 6);
  const std::string other = WritePosteriors(folder, "other", even, {0, 1, 5, 4});
  EXPECT_THAT(both.Add(files, other).error().message, HasSubstr("is of other images or classes than " + one));
  const std::string split = WritePosteriors(folder, "split", even, labels, "t");
  EXPECT_FALSE(both.Add(files, split).has_value());
  PosteriorMean bad;
  EXPECT_THAT(bad.Add(files, WritePosteriors(folder, "label", even, {0, 1, 5, 6})).error().message, HasSubstr("label 6"));
}

TEST(Posteriors, WhatIsNoDistributionIsRefused) {
  const TempFolder folder;
  PosixFileSystem files;
  const auto error = [&](const std::vector<float>& values, const std::string& version = "1") {
    PosteriorMean mean;
    const auto added = mean.Add(files, WritePosteriors(folder, "bad", values, {0, 1, 5, 5}, "s", version));
    return added ? std::string() : added.error().message;
  };
  std::vector<float> values(24, 1.f / 6);
  EXPECT_EQ(error(values), "");
  EXPECT_THAT(error(values, "2"), HasSubstr("version \"2\""));
  values[13] = std::nanf("");
  EXPECT_THAT(error(values), HasSubstr("bad: row 2 (source ordinal 8) is no distribution"));
  values[13] = 1.f / 6 + 0.01f;
  EXPECT_THAT(error(values), HasSubstr("row 2"));
  values = std::vector<float>(24, 1.f / 6);
  values[0] = -1.f / 6;
  values[1] = 3.f / 6;
  EXPECT_THAT(error(values), HasSubstr("row 0")) << "the sum is 1, a value is negative";
}

ReportInput Measured() {
  ReportInput input{.pipeline = "paper-1", .state = "COMPLETED", .scale_factor = 1};
  TrainedModel d{.job = "paper-1.d", .network = "vgg-d", .state = "COMPLETED", .epochs = 74, .decays = 3, .seconds = 7'200, .images_per_s = 90, .workers = 4};
  d.loss = {{1, 2.0}, {2, 1.0}};
  d.error = {{1, 0.5}, {2, 0.3}};
  const TrainedModel one{.job = "paper-1.speed-d", .network = "vgg-d", .state = "COMPLETED", .images_per_s = 25, .baseline = true};
  input.models = {d, one};
  TestResult test{.name = "paper-1.single-d", .model = "paper-1.d", .images = 50'000, .correct1 = 36'400, .correct5 = 45'500, .seconds = 60};
  test.rows = {{3, {"D", "256", "256"}}};
  TestResult waits{.name = "paper-1.single-e", .missing = "is QUEUED: waiting for paper-1.e"};
  waits.rows = {{3, {"E", "256", "256"}}};
  TestResult own{.name = "own", .images = 10, .correct1 = 5, .correct5 = 9};
  own.rows = {{3, {"F <x>", "256", "256"}}};
  input.tests = {test, waits, own};
  return input;
}

TEST(Report, PutsMeasuredBesidePublished) {
  const ReportInput input = Measured();
  const Report report = MakeReport(input);
  const auto& rows = report.tables.front().rows;
  const auto d = std::find_if(rows.begin(), rows.end(), [](const ReportRow& row) { return row.published.key == std::vector<std::string>{"D", "256", "256"}; });
  ASSERT_NE(d, rows.end());
  EXPECT_DOUBLE_EQ(*d->top1, 27.2);
  EXPECT_DOUBLE_EQ(*d->published.top1, 27.0);
  EXPECT_DOUBLE_EQ(*d->speed_up, 3.6);
  EXPECT_EQ(d->model->decays, 3);
  EXPECT_EQ(rows.size(), 13u) << "the twelve of the paper and one of its own";
  EXPECT_FALSE(rows.back().is_published);
}

TEST(Report, EveryFormSaysTheSame) {
  const ReportInput input = Measured();
  const Report report = MakeReport(input);
  const std::string text = RenderReport(report, ReportFormat::kText);
  EXPECT_THAT(text, HasSubstr("Table 3: Single test scale, dense"));
  EXPECT_THAT(text, HasSubstr("27.20   27.0  +0.20   9.00    8.8  +0.20"));
  EXPECT_THAT(text, HasSubstr("3.60 (4 workers)"));
  EXPECT_THAT(text, HasSubstr("is QUEUED: waiting for paper-1.e"));
  EXPECT_THAT(text, HasSubstr("depth helps: undecided"));
  EXPECT_THAT(RenderReport(report, ReportFormat::kMarkdown), HasSubstr("| D | 256 | 256 | 27.20 | 27.0 | +0.20 | 9.00 | 8.8 | +0.20 | 74.0 | 3 |"));
  const json parsed = json::parse(ReportJson(report));
  EXPECT_EQ(parsed.at("tables").size(), 5u);
  EXPECT_DOUBLE_EQ(parsed.at("tables")[0].at("rows")[6].at("measured").at("top1_error"), 27.2);
  EXPECT_EQ(parsed.at("claims")[0].at("verdict"), "undecided");
  EXPECT_EQ(parsed.at("tables")[4].at("rows")[3].at("published").at("top5_of_val_and_test"), true);
  const std::string page = ReportHtml(report);
  EXPECT_THAT(page, HasSubstr("<polyline"));
  EXPECT_THAT(page, HasSubstr("F &lt;x&gt;"));
  EXPECT_THAT(page, Not(HasSubstr("http://"))) << "it loads nothing";
  EXPECT_THAT(page, Not(HasSubstr("<script")));
}

}  // namespace
}  // namespace plateau::test
