// Holds the house rules over every source file, and shows that each rule can be broken.
#include "tests/style/source_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace plateau::style {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kFunctionLimit = 70;

const std::vector<SourceFile>& Sources() {
  static const std::vector<SourceFile> sources = ReadSources(PLATEAU_SOURCE_DIR);
  return sources;
}

template <typename Check>
std::vector<std::string> Findings(Check check) {
  std::vector<std::string> all;
  for (const auto& file : Sources())
    for (auto& finding : check(file)) all.push_back(std::move(finding));
  return all;
}

TEST(SourceRules, EverySourceIsRead) { EXPECT_GT(Sources().size(), 50u); }

TEST(SourceRules, IncludesRunOneWay) { EXPECT_THAT(Findings(CheckIncludeDirection), IsEmpty()); }

TEST(SourceRules, DeviceAndStorageLibrariesStayInTheirRooms) { EXPECT_THAT(Findings(CheckDeviceHeaders), IsEmpty()); }

TEST(SourceRules, FunctionsAreShort) {
  EXPECT_THAT(Findings([](const SourceFile& file) { return CheckFunctionLength(file, kFunctionLimit); }), IsEmpty());
}

TEST(SourceRules, FilesOpenWithASentence) { EXPECT_THAT(Findings(CheckOpening), IsEmpty()); }

TEST(SourceRules, NothingIsLeftOver) { EXPECT_THAT(Findings(CheckLeftovers), IsEmpty()); }

TEST(SourceRulesThemselves, SeeAnIncludeAgainstTheStream) {
  EXPECT_THAT(CheckIncludeDirection({"worker/nn/x.cpp", "#include \"coordinator/job/job.h\"\n"}),
              ElementsAre(HasSubstr("worker/nn/x.cpp:1")));
  EXPECT_EQ(CheckIncludeDirection({"common/x.cpp", "#include \"dataset/record.h\"\n"}).size(), 1u);
  EXPECT_EQ(CheckIncludeDirection({"dataset/x.cpp", "#include \"worker/nn/plan.h\"\n"}).size(), 1u);
  EXPECT_EQ(CheckIncludeDirection({"worker/nn/x.cpp", "#include \"worker/train/step.h\"\n"}).size(), 1u);
  EXPECT_EQ(CheckIncludeDirection({"worker/model/x.cpp", "#include \"worker/nn/plan.h\"\n"}).size(), 1u);
  EXPECT_EQ(CheckIncludeDirection({"coordinator/cli/x.cpp", "#include \"coordinator/job/job.h\"\n"}).size(), 1u);
  EXPECT_THAT(CheckIncludeDirection({"worker/train/x.cpp", "#include \"worker/nn/plan.h\"\n#include \"dataset/readers/x.h\"\n"}),
              IsEmpty());
  EXPECT_THAT(CheckIncludeDirection({"worker/run.cpp", "#include \"worker/train/run.h\"\n#include \"worker/run.h\"\n"}), IsEmpty());
}

TEST(SourceRulesThemselves, SeeALibraryOutsideItsRoom) {
  EXPECT_EQ(CheckDeviceHeaders({"worker/nn/x.cpp", "#include <dnnl.hpp>\n"}).size(), 1u);
  EXPECT_EQ(CheckDeviceHeaders({"dataset/ingest.cpp", "#include <rocksdb/db.h>\n"}).size(), 1u);
  EXPECT_THAT(CheckDeviceHeaders({"dataset/shard_reader.cpp", "#include <rocksdb/db.h>\n"}), IsEmpty());
}

TEST(SourceRulesThemselves, CountTheLinesOfAFunction) {
  const std::string body = "\n  x();\n  y(\"}\");  // }\n  const auto f = [] { return '}'; };\n}\n";
  EXPECT_THAT(CheckFunctionLength({"a.cpp", "namespace a {\nint F(int x) {" + body + "}\n"}, 5),
              ElementsAre(HasSubstr("F has 5 lines")));
  EXPECT_THAT(CheckFunctionLength({"a.cpp", "class A {\n  A() : x_{1} {}\n  int F() const {" + body + "};\n"}, 5),
              ElementsAre(HasSubstr("F has 5")));
  EXPECT_THAT(CheckFunctionLength({"a.cpp", "int F(int x) {" + body}, 6), IsEmpty());
  EXPECT_THAT(
      CheckFunctionLength(
          {"a.cpp", "const std::map<int, int> kTable{\n1,\n2,\n3,\n4,\n5};\nstruct S {\nint a;\nint b;\nint c;\nint d;\n};\n"}, 4),
      IsEmpty());
  EXPECT_THAT(CheckFunctionLength({"a.cpp", "const char* k = R\"(\n{\n\n)\";\nvoid G() {\n}\n"}, 3), IsEmpty());
}

TEST(SourceRulesThemselves, SeeAMissingOpeningAndLeftovers) {
  EXPECT_EQ(CheckOpening({"a.h", "#pragma once\n"}).size(), 1u);
  EXPECT_THAT(CheckOpening({"a.h", "// Says what the file is for.\n#pragma once\n"}), IsEmpty());
  EXPECT_EQ(CheckLeftovers({"a.h", std::string("// TO") + "DO later\n"}).size(), 1u);
  EXPECT_EQ(CheckLeftovers({"a.h", "#ifdef HAVE_CUDA\n"}).size(), 1u);
}

}  // namespace
}  // namespace plateau::style
