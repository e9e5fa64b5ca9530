// The life of a node: asked when it is new or in doubt, LOST until it answers; its record, and the hostfile.
#include "coordinator/node/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace plateau {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class NodeRegistryTest : public ::testing::Test {
 protected:
  NodeState State(const std::string& name) { return registry_.Find(name)->state(); }
  void Answers(const std::string& name, int cores = 8) { registry_.Answered({.node = name, .answered = true, .cores = cores}, now_); }
  void Fails(const std::string& name) { registry_.Answered({.node = name, .message = "no route to host"}, now_); }
  std::vector<std::string> Due() { return registry_.TakeDueProbes(now_.monotonic_ms); }
  void Wait(int64_t ms) {
    now_.unix_ms += ms;
    now_.monotonic_ms += ms;
  }

  Moment now_{1'000'000, 500};
  NodeRegistry registry_{{.local_names = {kLocalNode, "head", "head.cluster"}, .local_cores = 4}};
};

TEST_F(NodeRegistryTest, ANewNodeTakesWorkOnceItAnswersAndSaysItsCores) {
  ASSERT_TRUE(registry_.Add("n1", 0, false, now_));
  EXPECT_EQ(State("n1"), NodeState::kChecking);
  EXPECT_THAT(Due(), ElementsAre("n1"));
  EXPECT_THAT(Due(), IsEmpty()) << "the answer is under way";
  Answers("n1", 8);
  EXPECT_EQ(State("n1"), NodeState::kReady);
  EXPECT_EQ(registry_.Find("n1")->cores, 8);
  EXPECT_EQ(registry_.NextProbeMs(), std::nullopt) << "a node that is READY is left alone";
}

TEST_F(NodeRegistryTest, GivenCoresHoldWhateverTheHostSays) {
  ASSERT_TRUE(registry_.Add("n1", 2, false, now_));
  Answers("n1", 8);
  EXPECT_EQ(registry_.Find("n1")->cores, 2);
  ASSERT_TRUE(registry_.Add("n1", 3, false, now_));
  EXPECT_EQ(registry_.Find("n1")->cores, 3);
  EXPECT_EQ(State("n1"), NodeState::kReady) << "only its cores changed";
  EXPECT_EQ(registry_.All().size(), 1u);
}

TEST_F(NodeRegistryTest, AHostThatDoesNotSayItsCoresIsNotGuessed) {
  ASSERT_TRUE(registry_.Add("n1", 0, false, now_));
  Answers("n1", 0);
  EXPECT_EQ(State("n1"), NodeState::kLost);
  EXPECT_THAT(registry_.Find("n1")->message(), HasSubstr("--cores"));
}

TEST_F(NodeRegistryTest, ThisMachineIsKnownByItsNamesAndNeverAsked) {
  EXPECT_EQ(registry_.Add("head.cluster", 0, false, now_).value(), kLocalNode);
  EXPECT_EQ(State("head"), NodeState::kReady);
  EXPECT_EQ(registry_.Find(kLocalNode)->cores, 4);
  registry_.Doubt("head", "its ranks are silent", now_);
  EXPECT_EQ(State("head"), NodeState::kReady);
  EXPECT_THAT(Due(), IsEmpty());
}

TEST_F(NodeRegistryTest, ALostNodeIsAskedAgainWithGrowingDelaysUntilItAnswers) {
  ASSERT_TRUE(registry_.Add("n1", 2, false, now_));
  Answers("n1");
  registry_.Doubt("n1", "ranks 4,5 silent", now_);
  EXPECT_EQ(State("n1"), NodeState::kLost);
  std::vector<int64_t> delays;
  for (int i = 0; i < 6; ++i) {
    EXPECT_THAT(Due(), ElementsAre("n1"));
    Fails("n1");
    delays.push_back(*registry_.NextProbeMs() - now_.monotonic_ms);
    EXPECT_THAT(Due(), IsEmpty());
    Wait(delays.back());
  }
  EXPECT_THAT(delays, ElementsAre(1'000, 2'000, 4'000, 8'000, 15'000, 15'000));
  EXPECT_THAT(registry_.Find("n1")->message(), HasSubstr("ranks 4,5")) << "the reason stays, it is not repeated by each failure";
  EXPECT_THAT(Due(), ElementsAre("n1"));
  Answers("n1");
  EXPECT_EQ(State("n1"), NodeState::kReady);
}

TEST_F(NodeRegistryTest, DoubtTakesANodeOutUntilItAnswers) {
  ASSERT_TRUE(registry_.Add("n1", 2, false, now_));
  Answers("n1");
  registry_.Doubt("n1", "", now_);
  EXPECT_EQ(State("n1"), NodeState::kChecking);
  EXPECT_THAT(Due(), ElementsAre("n1"));
  Fails("n1");
  EXPECT_EQ(State("n1"), NodeState::kLost);
  registry_.Doubt("n1", "", now_);
  EXPECT_EQ(State("n1"), NodeState::kLost) << "what is lost stays lost";
  registry_.Doubt("n9", "", now_);
  registry_.Answered({.node = "n9", .answered = true}, now_);
  EXPECT_EQ(registry_.Find("n9"), nullptr) << "removed meanwhile";
}

TEST_F(NodeRegistryTest, ChangesAreTakenOnceAndARecordComesBackAsItWas) {
  ASSERT_TRUE(registry_.Add("n2", 2, true, now_));
  ASSERT_TRUE(registry_.Add("n1", 0, false, now_));
  Fails("n1");
  const auto changed = registry_.TakeChanged();
  ASSERT_EQ(changed.size(), 2u);
  EXPECT_THAT(registry_.TakeChanged(), IsEmpty());
  NodeRegistry again{{}};
  for (const auto& node : {changed[1], changed[0]}) again.Restore(ParseNodeRecord(NodeRecordText(node)).value());
  ASSERT_EQ(again.All().size(), 2u);
  EXPECT_EQ(again.All()[0].name, "n2") << "in the order of addition";
  EXPECT_EQ(again.All()[1].history, changed[1].history);
  EXPECT_EQ(again.Find("n1")->state(), NodeState::kLost);
  EXPECT_THAT(again.TakeDueProbes(0), ElementsAre("n2", "n1")) << "asked again at once";
  EXPECT_FALSE(ParseNodeRecord("{\"v\":1}").has_value());
  EXPECT_FALSE(ParseNodeRecord("nonsense").has_value());
}

TEST_F(NodeRegistryTest, AHostTellsItsGpusOrWhyItHasNone) {
  ASSERT_TRUE(registry_.Add("n1", 0, false, now_));
  EXPECT_FALSE(registry_.Find("n1")->gpus_told);
  registry_.Answered({.node = "n1", .answered = true, .cores = 8, .gpus = GpuReport{{{"2", "H200", 7}, {"5", "H200", 7}}, ""}},
                     now_);
  EXPECT_EQ(registry_.Find("n1")->gpus().size(), 2u);
  registry_.Doubt("n1", "", now_);
  registry_.Answered({.node = "n1", .answered = true, .cores = 8, .gpus = GpuReport{{}, "the driver is gone"}}, now_);
  EXPECT_THAT(registry_.Find("n1")->gpus(), IsEmpty()) << "as it says now";
  EXPECT_EQ(registry_.Find("n1")->no_gpus_why, "the driver is gone");
}

TEST_F(NodeRegistryTest, AnOfferOfGpusHoldsUntilItIsTakenBack) {
  ASSERT_TRUE(registry_.Add("n1", 0, false, now_));
  ASSERT_TRUE(registry_.OfferGpus("n1", "5,", now_));
  registry_.Answered({.node = "n1", .answered = true, .cores = 8, .gpus = GpuReport{{{"2", "H200", 7}, {"5", "H200", 7}}, ""}},
                     now_);
  EXPECT_THAT(registry_.Find("n1")->gpus(), ElementsAre(Gpu{"5", "H200", 7}));
  ASSERT_TRUE(registry_.Add("n1", 4, true, now_)) << "a hostfile says nothing of GPUs";
  EXPECT_EQ(registry_.Find("n1")->gpus_given, "5,");
  ASSERT_TRUE(registry_.OfferGpus("n1", "", now_));
  EXPECT_EQ(registry_.Find("n1")->gpus().size(), 2u) << "the host need not be asked again";
  EXPECT_EQ(State("n1"), NodeState::kReady);
  EXPECT_FALSE(registry_.OfferGpus("n1", "0,0", now_));
  EXPECT_EQ(registry_.Find("n1")->gpus().size(), 2u);
}

TEST_F(NodeRegistryTest, GpusComeBackFromTheRecordAndThisMachinesAreAskedAnew) {
  ASSERT_TRUE(registry_.Add("n1", 2, false, now_));
  ASSERT_TRUE(registry_.OfferGpus("n1", "1", now_));
  registry_.Answered({.node = "n1", .answered = true, .cores = 8, .gpus = GpuReport{{{"2", "H200", 7}, {"5", "H200", 7}}, ""}},
                     now_);
  ASSERT_TRUE(registry_.Add("head", 0, false, now_));
  NodeRegistry again{{.local_names = {kLocalNode}, .local_answer = {.answered = true, .gpus = GpuReport{{{"0", "L4", 24}}, ""}}}};
  for (const auto& node : registry_.TakeChanged()) again.Restore(ParseNodeRecord(NodeRecordText(node)).value());
  EXPECT_THAT(again.Find("n1")->gpus(), ElementsAre(Gpu{"2", "H200", 7}));
  EXPECT_EQ(again.Find("n1")->host_gpus.size(), 2u);
  EXPECT_THAT(again.Find(kLocalNode)->gpus(), ElementsAre(Gpu{"0", "L4", 24}));
  EXPECT_THAT(again.TakeDueProbes(0), IsEmpty());
}

TEST_F(NodeRegistryTest, ARecordOfAnEarlierReleaseIsReadAndItsHostAskedForGpus) {
  const std::string old = R"({"v":1,"name":"n1","cores":8,"cores_given":false,"order":1,"from_hostfile":false,
    "history":[{"time_ms":1000,"state":"READY","message":"it answers"}]})";
  NodeRegistry again{{}};
  again.Restore(ParseNodeRecord(old).value());
  EXPECT_EQ(again.Find("n1")->state(), NodeState::kReady) << "it takes work meanwhile";
  EXPECT_THAT(again.TakeDueProbes(0), ElementsAre("n1"));
  again.Answered({.node = "n1", .answered = true, .cores = 8, .gpus = GpuReport{{{"0"}}, ""}}, now_);
  EXPECT_EQ(again.Find("n1")->gpus().size(), 1u);
  EXPECT_EQ(again.TakeChanged().size(), 1u);
  EXPECT_EQ(again.NextProbeMs(), std::nullopt);
}

TEST_F(NodeRegistryTest, AHostWithoutAReportTakesWorkAndIsAskedAgainUntilItTells) {
  ASSERT_TRUE(registry_.Add("n1", 0, false, now_));
  EXPECT_THAT(Due(), ElementsAre("n1"));
  registry_.Answered({.node = "n1", .answered = true, .cores = 8, .no_report = "no answer within 20 s"}, now_);
  EXPECT_EQ(State("n1"), NodeState::kReady);
  EXPECT_TRUE(registry_.Find("n1")->gpus_told) << "jobs decide without its GPUs";
  EXPECT_THAT(registry_.Find("n1")->WhyNoGpus(), HasSubstr("no answer within 20 s; asked again every 5 minutes"));
  registry_.TakeChanged();
  const size_t changes = registry_.Find("n1")->history.size();
  for (int i = 0; i < 2; ++i) {
    Wait(5 * 60'000 - 1);
    EXPECT_THAT(Due(), IsEmpty());
    Wait(1);
    EXPECT_EQ(registry_.NextProbeMs(), now_.monotonic_ms);
    EXPECT_THAT(Due(), ElementsAre("n1"));
    registry_.Answered({.node = "n1", .answered = true, .cores = 8, .no_report = "no answer within 20 s"}, now_);
  }
  EXPECT_THAT(registry_.TakeChanged(), IsEmpty()) << "nothing new to store";
  Wait(5 * 60'000);
  EXPECT_THAT(Due(), ElementsAre("n1"));
  registry_.Answered({.node = "n1", .answered = true, .cores = 8, .gpus = GpuReport{{{"2", "H200", 7}}, ""}}, now_);
  EXPECT_THAT(registry_.Find("n1")->gpus(), ElementsAre(Gpu{"2", "H200", 7}));
  EXPECT_EQ(registry_.TakeChanged().size(), 1u);
  EXPECT_EQ(registry_.Find("n1")->history.size(), changes) << "it was READY all the time";
  EXPECT_EQ(registry_.NextProbeMs(), std::nullopt);
}

TEST_F(NodeRegistryTest, AReadyHostThatIsSilentAboutItsGpusKeepsThemAndItsState) {
  const Gpu gpu{"2", "H200", 7};
  ASSERT_TRUE(registry_.Add("n1", 0, false, now_));
  registry_.Answered({.node = "n1", .answered = true, .cores = 8, .gpus = GpuReport{{gpu, {"3", "H200", 7}}, ""}}, now_);
  registry_.WithdrawGpu("n1", {"3", "no CUDA driver"}, now_);
  EXPECT_THAT(Due(), ElementsAre("n1"));
  registry_.Answered({.node = "n1", .timed_out = true, .message = "no answer within 30 s"}, now_);
  EXPECT_EQ(State("n1"), NodeState::kReady);
  EXPECT_THAT(registry_.Find("n1")->gpus(), ElementsAre(gpu));
  EXPECT_THAT(registry_.Find("n1")->GpusNote(), HasSubstr("as it last told: no answer within 30 s; asked again every 5 minutes"));
  EXPECT_EQ(registry_.NextProbeMs(), now_.monotonic_ms + 5 * 60'000);
  NodeRegistry again{{}};
  again.Restore(ParseNodeRecord(NodeRecordText(*registry_.Find("n1"))).value());
  EXPECT_THAT(again.TakeDueProbes(0), ElementsAre("n1")) << "what it told last is old";
  registry_.Answered({.node = "n1", .answered = true, .no_report = "Segmentation fault"}, now_);
  EXPECT_THAT(registry_.Find("n1")->gpus(), ElementsAre(gpu));
  Fails("n1");
  EXPECT_EQ(State("n1"), NodeState::kLost) << "nobody can reach it";
  registry_.Answered({.node = "n1", .timed_out = true, .message = "no answer within 30 s"}, now_);
  EXPECT_EQ(State("n1"), NodeState::kLost);
  registry_.Answered({.node = "n1", .answered = true, .cores = 8, .no_report = "Segmentation fault"}, now_);
  EXPECT_EQ(State("n1"), NodeState::kReady);
  EXPECT_THAT(registry_.Find("n1")->gpus(), IsEmpty()) << "after it was away, what it told before says nothing";
}

TEST_F(NodeRegistryTest, ARestartAndAddingItOnceMoreAskAHostThatToldNoGpus) {
  for (const char* name : {"crashed", "none", "some"}) ASSERT_TRUE(registry_.Add(name, 2, false, now_));
  registry_.Answered({.node = "crashed", .answered = true, .no_report = "Segmentation fault"}, now_);
  registry_.Answered({.node = "none", .answered = true, .gpus = GpuReport{{}, "no CUDA driver"}}, now_);
  registry_.Answered({.node = "some", .answered = true, .gpus = GpuReport{{{"0"}}, ""}}, now_);
  EXPECT_THAT(Due(), IsEmpty());
  NodeRegistry again{{}};
  for (const auto& node : registry_.TakeChanged()) again.Restore(ParseNodeRecord(NodeRecordText(node)).value());
  EXPECT_TRUE(again.Find("crashed")->gpus_told) << "jobs decide meanwhile";
  EXPECT_THAT(again.TakeDueProbes(0), ElementsAre("crashed", "none"));
  again.Answered({.node = "none", .answered = true, .gpus = GpuReport{{}, "no CUDA driver"}}, now_);
  EXPECT_EQ(again.NextProbeMs(), std::nullopt) << "a report holds, also of none";
  for (const char* name : {"crashed", "none", "some"}) ASSERT_TRUE(registry_.Add(name, 2, false, now_));
  EXPECT_THAT(Due(), ElementsAre("crashed", "none"));
}

TEST_F(NodeRegistryTest, ThisMachineIsAskedAgainToo) {
  NodeRegistry registry{{.local_names = {kLocalNode, "head"},
                         .local_answer = {.answered = true, .no_report = "Segmentation fault"},
                         .local_offer = "1"}};
  EXPECT_THAT(registry.TakeDueProbes(0), ElementsAre(kLocalNode)) << "nobody named it as a node";
  registry.Answered({.node = kLocalNode, .message = "no answer within 30 s"}, now_);
  EXPECT_EQ(registry.NextProbeMs(), now_.monotonic_ms + 5 * 60'000);
  ASSERT_TRUE(registry.Add("head", 0, false, now_));
  ASSERT_TRUE(registry.Add("head", 0, false, now_));
  EXPECT_THAT(registry.TakeDueProbes(now_.monotonic_ms), ElementsAre(kLocalNode));
  EXPECT_EQ(registry.Find("head")->state(), NodeState::kReady);
  registry.TakeChanged();
  registry.Answered({.node = kLocalNode, .answered = true, .gpus = GpuReport{{{"4", "L4", 24}, {"6", "L4", 24}}, ""}}, now_);
  EXPECT_THAT(registry.LocalGpus().gpus, ElementsAre(Gpu{"4", "L4", 24})) << "as much of it as is offered";
  EXPECT_THAT(registry.Find("head")->gpus(), ElementsAre(Gpu{"4", "L4", 24}));
  EXPECT_EQ(registry.TakeChanged().size(), 1u);
  EXPECT_EQ(registry.NextProbeMs(), std::nullopt);
}

TEST_F(NodeRegistryTest, AGpuThatDidNotAnswerIsNotOfferedUntilItsHostTellsOthers) {
  const GpuReport both{{{"0", "L4", 24}, {"1", "L4", 24}}, ""};
  ASSERT_TRUE(registry_.Add("n1", 8, false, now_));
  registry_.Answered({.node = "n1", .answered = true, .gpus = both}, now_);
  registry_.WithdrawGpu("n1", {"0", "no CUDA driver"}, now_);
  EXPECT_THAT(registry_.Find("n1")->gpus(), ElementsAre(Gpu{"1", "L4", 24}));
  EXPECT_EQ(registry_.Find("n1")->GpusNote(), "GPU 0 does not answer and is not offered: no CUDA driver");
  EXPECT_EQ(registry_.Find("n1")->WhyNoGpus(), "");
  EXPECT_THAT(Due(), ElementsAre("n1")) << "asked at once what it has now";
  registry_.Answered({.node = "n1", .answered = true, .gpus = both}, now_);
  EXPECT_EQ(registry_.Find("n1")->gpus().size(), 1u) << "it says the same as before";
  registry_.Doubt("n1", "", now_);
  registry_.Answered({.node = "n1", .answered = true, .gpus = GpuReport{{{"1", "L4", 24}}, ""}}, now_);
  EXPECT_EQ(registry_.Find("n1")->GpusNote(), "") << "what it tells is true again";
  EXPECT_EQ(registry_.Find("n1")->gpus().size(), 1u);
}

TEST_F(NodeRegistryTest, AClaimedGpuThatDidNotAnswerIsTriedAgainWhenItIsOfferedAnew) {
  ASSERT_TRUE(registry_.Add("n1", 8, false, now_));
  ASSERT_TRUE(registry_.OfferGpus("n1", "1", now_));
  registry_.Answered({.node = "n1", .answered = true, .gpus = GpuReport{{}, "no CUDA driver"}}, now_);
  EXPECT_THAT(registry_.Find("n1")->gpus(), ElementsAre(Gpu{"0"}));
  registry_.WithdrawGpu("n1", {"0", "no CUDA driver"}, now_);
  EXPECT_THAT(registry_.Find("n1")->gpus(), IsEmpty());
  EXPECT_THAT(registry_.Find("n1")->WhyNoGpus(), HasSubstr("GPU 0 does not answer"));
  registry_.Answered({.node = "n1", .answered = true, .no_report = "Segmentation fault"}, now_);
  EXPECT_THAT(registry_.Find("n1")->gpus(), IsEmpty()) << "no report says nothing new";
  ASSERT_TRUE(registry_.OfferGpus("n1", "1", now_));
  EXPECT_THAT(registry_.Find("n1")->gpus(), ElementsAre(Gpu{"0"}));
  registry_.WithdrawGpu("n9", {"0", "removed meanwhile"}, now_);
}

TEST_F(NodeRegistryTest, AClaimedGpuThatWentAwayStaysAwayWhenItsHostSaysSo) {
  ASSERT_TRUE(registry_.Add("n1", 8, false, now_));
  ASSERT_TRUE(registry_.OfferGpus("n1", "0,1", now_));
  const Gpu first{"0", "L4", 24}, second{"1", "L4", 24};
  registry_.Answered({.node = "n1", .answered = true, .gpus = GpuReport{{first, second}, ""}}, now_);
  registry_.WithdrawGpu("n1", {"1", "fell off the bus"}, now_);
  registry_.Answered({.node = "n1", .answered = true, .gpus = GpuReport{{first}, ""}}, now_);
  EXPECT_THAT(registry_.Find("n1")->gpus(), ElementsAre(first));
  registry_.Doubt("n1", "", now_);
  registry_.Answered({.node = "n1", .answered = true, .gpus = GpuReport{{first, second}, ""}}, now_);
  EXPECT_THAT(registry_.Find("n1")->gpus(), ElementsAre(first, second)) << "it is back";
}

TEST_F(NodeRegistryTest, ThisMachinesGpusAreWithdrawnInTheListAndOutOfIt) {
  NodeRegistry registry{{.local_names = {kLocalNode, "head"},
                         .local_answer = {.answered = true, .gpus = GpuReport{{}, "no CUDA driver"}},
                         .local_offer = "2"}};
  EXPECT_EQ(registry.Here().gpus().size(), 2u);
  registry.WithdrawGpu(kLocalNode, {"0", "no CUDA driver"}, now_);
  EXPECT_THAT(registry.Here().gpus(), ElementsAre(Gpu{"1"}));
  EXPECT_THAT(registry.TakeDueProbes(now_.monotonic_ms), ElementsAre(kLocalNode));
  ASSERT_TRUE(registry.Add("head", 0, false, now_));
  EXPECT_THAT(registry.Find("head")->gpus(), ElementsAre(Gpu{"1"}));
  registry.WithdrawGpu("head", {"1", "no CUDA driver"}, now_);
  EXPECT_THAT(registry.Find("head")->gpus(), IsEmpty());
  registry.Answered({.node = kLocalNode, .answered = true, .gpus = GpuReport{{}, "no CUDA driver"}}, now_);
  EXPECT_THAT(registry.Find("head")->gpus(), IsEmpty()) << "nothing new";
  ASSERT_TRUE(registry.OfferGpus("head", "", now_));
  EXPECT_EQ(registry.Find("head")->gpus().size(), 2u) << "a person wants them tried again";
  EXPECT_EQ(registry.Here().gpus().size(), 2u);
}

TEST_F(NodeRegistryTest, TheHistoryIsBounded) {
  ASSERT_TRUE(registry_.Add("n1", 2, false, now_));
  for (int i = 0; i < 100; ++i) {
    Answers("n1");
    registry_.Doubt("n1", "again", now_);
  }
  EXPECT_EQ(registry_.Find("n1")->history.size(), kMaxNodeChanges);
}

TEST_F(NodeRegistryTest, NodesOfAnEarlierHostfileGoWithIt) {
  ASSERT_TRUE(registry_.Add("old", 2, true, now_));
  ASSERT_TRUE(registry_.Add("kept", 2, true, now_));
  ASSERT_TRUE(registry_.Add("by-hand", 2, false, now_));
  EXPECT_THAT(registry_.KeepOnly({{"kept", 2}}), ElementsAre("old"));
  EXPECT_EQ(registry_.All().size(), 2u);
}

TEST_F(NodeRegistryTest, WhatCouldBeAnOptionOfTheAgentIsNoHostName) {
  for (const char* name : {"", "-oProxyCommand=x", "a b", "n1;reboot", "user@n1"}) {
    const auto added = registry_.Add(name, 1, false, now_);
    ASSERT_FALSE(added.has_value()) << name;
    EXPECT_EQ(added.error().code, ErrorCode::kInvalidInput);
  }
  EXPECT_TRUE(registry_.Add("10.0.0.7", 1, false, now_).has_value());
}

TEST(Hostfile, IsReadAsOpenMpiWritesIt) {
  const auto entries = ParseHostfile("# the cluster\nn1 slots=4\n\nn2   slots=2 max_slots=8 # half of it\nn3\nn1 slots=1\n", "hosts");
  ASSERT_TRUE(entries.has_value()) << entries.error().message;
  EXPECT_THAT(*entries, ElementsAre(HostfileEntry{"n1", 5}, HostfileEntry{"n2", 2}, HostfileEntry{"n3", 0}));
}

TEST(Hostfile, MistakesNameTheLine) {
  for (const char* text : {"n1 slots=2\nn2 slots=none\n", "n1\nn2 slots=0", "n1\nn2 cores=4", "n1\n-x slots=1"}) {
    const auto entries = ParseHostfile(text, "hosts");
    ASSERT_FALSE(entries.has_value()) << text;
    EXPECT_THAT(entries.error().message, HasSubstr("hosts: line 2: "));
  }
  EXPECT_THAT(ParseHostfile("# nobody\n", "hosts").error().message, HasSubstr("no host is named"));
}

}  // namespace
}  // namespace plateau
