// What ranks learn from each other in one exchange.
#include "worker/collective/peers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/thread_collective.h"
#include "worker/collective/single.h"

namespace plateau {
namespace {

using ::testing::ElementsAre;

TEST(Peers, EveryRankLearnsTheNumberOfEveryRank) {
  test::RunThreadRanks(
      3, [](Collective& collective) { EXPECT_THAT(Gather(collective, 10 * collective.rank() - 5), ElementsAre(-5, 5, 15)); });
  SingleCollective alone;
  EXPECT_THAT(Gather(alone, int64_t{1} << 62), ElementsAre(int64_t{1} << 62));
}

TEST(Peers, TheSameNameOnTheSameMachineIsTheSame) {
  test::RunThreadRanks(3, [](Collective& collective) {
    const auto names = GatherNames(collective, collective.rank() == 1 ? "GPU-b" : "GPU-a");
    EXPECT_EQ(names[0], names[2]);
    EXPECT_NE(names[0], names[1]);
  });
}

TEST(Peers, TheSameNameOnAnotherMachineIsAnother) {
  test::RunThreadRanks(2, [](Collective& collective) {
    const auto names = GatherNames(collective, "0000:01:00.0", fmt::format("boot {}", collective.rank()));
    EXPECT_NE(names[0], names[1]);
  });
}

TEST(Peers, AMachineIsKnownByItsBootId) {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  ASSERT_TRUE(std::getline(file, id));
  EXPECT_EQ(MachineId(), id);
}

}  // namespace
}  // namespace plateau
