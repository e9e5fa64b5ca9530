// What a shared object asks for is read from its file.
#include "worker/backend/device/needed_libraries.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace plateau {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

TEST(NeededLibraries, AreThoseOfTheProgramItself) {
  const auto needed = NeededLibraries("/proc/self/exe");
  ASSERT_TRUE(needed) << needed.error().message;
  EXPECT_THAT(*needed, Contains("libc.so.6"));
  EXPECT_THAT(*needed, Contains("libstdc++.so.6"));
}

TEST(NeededLibraries, AFileThatIsCutShortAnywhereIsRefusedAndNotReadBeyond) {
  const test::TempFolder folder;
  std::ifstream whole(PLATEAU_STUB_PLUGIN, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(whole)), {});
  const auto all = NeededLibraries(PLATEAU_STUB_PLUGIN);
  ASSERT_TRUE(all) << all.error().message;
  for (const size_t length : {0, 3, 40, 100, 300, 700}) {
    const std::string path = folder.path() + "/cut.so";
    std::ofstream(path, std::ios::binary) << bytes.substr(0, length);
    const auto needed = NeededLibraries(path);
    ASSERT_FALSE(needed) << length;
    EXPECT_THAT(needed.error().message, HasSubstr("cut.so: is no 64-bit shared object"));
  }
}

TEST(NeededLibraries, AMissingFileIsNamed) {
  const auto needed = NeededLibraries("/nowhere/lib.so");
  ASSERT_FALSE(needed);
  EXPECT_THAT(needed.error().message, HasSubstr("/nowhere/lib.so: cannot be read"));
}

}  // namespace
}  // namespace plateau
