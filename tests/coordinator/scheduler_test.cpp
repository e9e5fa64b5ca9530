// The scheduler's rule: priority, then the line; who may pass; who runs alone; who is held.
#include "coordinator/schedule/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace plateau {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

WaitingJob Waiting(const std::string& id, int workers, int64_t queued_ms = 0, int priority = 50) {
  return {.id = id, .priority = priority, .queued_ms = queued_ms, .order = queued_ms, .workers = workers, .min_workers = workers};
}

// A cluster of this machine alone.
Cluster Node(int cores, bool allow_oversubscribe = true) { return {{NodeView{.cores = cores}}, allow_oversubscribe}; }
// Hosts n1, n2, ... of so many cores.
Cluster Hosts(std::vector<int> cores) {
  Cluster cluster;
  for (size_t i = 0; i < cores.size(); ++i) cluster.nodes.push_back({.name = "n" + std::to_string(i + 1), .cores = cores[i]});
  return cluster;
}
RunningJob Running(const std::string& id, std::vector<int> cores) {
  const auto workers = static_cast<int>(cores.size());
  return {id, {{kLocalNode, workers, std::move(cores)}}};
}
using Shares = std::vector<NodeShare>;

std::vector<std::string> Started(const Placement& placement) {
  std::vector<std::string> ids;
  for (const auto& start : placement.starts) ids.push_back(start.id);
  return ids;
}

TEST(Scheduler, PriorityFirstThenTheOrderOfArrival) {
  const auto placement = Place(Node(2), {Waiting("late", 1, 2), Waiting("early", 1, 1), Waiting("urgent", 1, 3, 90)}, {}, 10);
  EXPECT_THAT(Started(placement), ElementsAre("urgent", "early"));
}

TEST(Scheduler, GrantsTheLowestFreeCoresAndNoCoreTwice) {
  const auto placement = Place(Node(8), {Waiting("a", 2, 1), Waiting("b", 3, 2)}, {Running("r", {0, 2})}, 10);
  ASSERT_EQ(placement.starts.size(), 2u);
  EXPECT_THAT(placement.starts[0].shares[0].cores, ElementsAre(1, 3));
  EXPECT_THAT(placement.starts[1].shares[0].cores, ElementsAre(4, 5, 6));
}

TEST(Scheduler, SmallerJobsPassOneThatDoesNotFitUntilItHasWaitedLongEnough) {
  const std::vector<WaitingJob> line{Waiting("large", 4, 0), Waiting("small", 1, 1)};
  const std::vector<RunningJob> running{Running("r", {0, 1})};
  EXPECT_THAT(Started(Place(Node(4), line, running, kPassWindowMs - 1)), ElementsAre("small"));
  EXPECT_THAT(Started(Place(Node(4), line, running, kPassWindowMs)), IsEmpty());
}

TEST(Scheduler, AJobLargerThanTheNodeRunsAloneWhenItIsEmpty) {
  EXPECT_THAT(Started(Place(Node(2), {Waiting("big", 4)}, {Running("r", {0})}, 1)), IsEmpty());
  const auto placement = Place(Node(2), {Waiting("big", 4, 1), Waiting("next", 1, 2)}, {}, 10);
  ASSERT_THAT(Started(placement), ElementsAre("big"));
  EXPECT_THAT(placement.starts[0].shares[0].cores, IsEmpty());
  EXPECT_THAT(Started(Place(Node(2), {Waiting("next", 1)}, {Running("big", {})}, 10)), IsEmpty()) << "nothing runs beside it";
}

TEST(Scheduler, WithoutOversubscribingItIsHeldWithTheReasonAndTheOthersGoOn) {
  const Cluster node = Node(2, false);
  const auto placement = Place(node, {Waiting("big", 4, 1), Waiting("next", 1, 2)}, {}, kPassWindowMs * 2);
  ASSERT_EQ(placement.holds.size(), 1u);
  EXPECT_EQ(placement.holds[0].reason, "TOO_LARGE");
  EXPECT_THAT(placement.holds[0].message, HasSubstr("needs 4 cores"));
  EXPECT_THAT(Started(placement), ElementsAre("next"));
  auto held = Waiting("big", 4);
  held.held = true;
  held.held_for = Place(node, {Waiting("big", 4)}, {}, 1).holds.at(0).message;
  EXPECT_THAT(Place(node, {held}, {}, 1).holds, IsEmpty()) << "once";
  EXPECT_THAT(Place(Node(3, false), {held}, {}, 1).holds, ::testing::SizeIs(1)) << "again when the nodes have changed";
  EXPECT_THAT(Started(Place(Node(8, false), {held}, {}, 1)), ElementsAre("big")) << "it fits now";
  const auto busy = Place(Node(8, false), {held}, {Running("other", {0, 1, 2, 3, 4, 5})}, 1);
  ASSERT_EQ(busy.waits.size(), 1u) << "what it was held for is over";
  EXPECT_EQ(busy.waits[0].reason, "WAITING_FOR_CORES");
  EXPECT_THAT(Place(Node(8, false), {Waiting("big", 4)}, {Running("other", {0, 1, 2, 3, 4, 5})}, 1).waits, IsEmpty())
      << "which QUEUED says";
}

TEST(Scheduler, AJobInItsRestartDelayKeepsItsCores) {
  auto delayed = Waiting("delayed", 2, 1);
  delayed.delayed = true;
  EXPECT_THAT(Started(Place(Node(2), {delayed, Waiting("next", 1, 2)}, {}, 10)), IsEmpty());
  EXPECT_THAT(Started(Place(Node(3), {delayed, Waiting("next", 1, 2)}, {}, 10)), ElementsAre("next"));
}

TEST(Scheduler, AGangGoesOntoAsFewNodesAsPossible) {
  EXPECT_EQ(Place(Hosts({4, 8, 4}), {Waiting("a", 4)}, {}, 1).starts[0].shares, (Shares{{"n1", 4, {0, 1, 2, 3}}}))
      << "the node where it leaves the fewest cores over";
  EXPECT_EQ(Place(Hosts({4, 8, 4}), {Waiting("a", 6)}, {}, 1).starts[0].shares, (Shares{{"n2", 6, {0, 1, 2, 3, 4, 5}}}));
  EXPECT_EQ(Place(Hosts({1, 4, 2, 1}), {Waiting("a", 5)}, {}, 1).starts[0].shares,
            (Shares{{"n1", 1, {0}}, {"n2", 4, {0, 1, 2, 3}}}))
      << "the rest goes to the fullest that takes it, and ranks are numbered in the order of the nodes";
}

TEST(Scheduler, AWorkerNeverSpansTwoNodes) {
  auto wide = Waiting("wide", 2);
  wide.threads_per_worker = 3;
  EXPECT_EQ(Place(Hosts({4, 5}), {wide}, {}, 1).starts[0].shares, (Shares{{"n1", 1, {0, 1, 2}}, {"n2", 1, {0, 1, 2}}}));
  Cluster small = Hosts({2, 2, 2});
  small.allow_oversubscribe = false;
  const auto held = Place(small, {wide}, {}, 1);
  ASSERT_EQ(held.holds.size(), 1u);
  EXPECT_EQ(held.holds[0].reason, "TOO_LARGE");
  EXPECT_THAT(held.holds[0].message, HasSubstr("2 workers of 3 threads"));
}

TEST(Scheduler, AGangThatDoesNotFitAsAWholeWaits) {
  const RunningJob running{"r", {{"n2", 1, {1}}}};
  EXPECT_THAT(Started(Place(Hosts({2, 2}), {Waiting("a", 4)}, {running}, 1)), IsEmpty());
  EXPECT_EQ(Place(Hosts({2, 2}), {Waiting("a", 3)}, {running}, 1).starts[0].shares, (Shares{{"n1", 2, {0, 1}}, {"n2", 1, {0}}}));
}

TEST(Scheduler, AJobWaitsForALostHostByNameAndClosesTheLineToNobody) {
  Cluster cluster = Hosts({1, 1, 1});
  cluster.nodes[2].health = NodeHealth::kLost;
  const auto placement = Place(cluster, {Waiting("three", 3, 0), Waiting("two", 2, 1)}, {}, 2 * kPassWindowMs);
  ASSERT_EQ(placement.waits.size(), 1u);
  EXPECT_EQ(placement.waits[0].id, "three");
  EXPECT_EQ(placement.waits[0].reason, "WAITING_FOR_HOST");
  EXPECT_THAT(placement.waits[0].message, HasSubstr("waiting for host n3"));
  EXPECT_THAT(placement.waits[0].message, HasSubstr("room for 2"));
  EXPECT_THAT(Started(placement), ElementsAre("two"));
  cluster.nodes[2].health = NodeHealth::kChecking;
  const auto checking = Place(cluster, {Waiting("three", 3)}, {}, 1);
  EXPECT_THAT(checking.waits, IsEmpty()) << "it may answer any moment";
  EXPECT_THAT(Started(checking), IsEmpty());
  cluster.nodes[2].health = NodeHealth::kReady;
  EXPECT_THAT(Started(Place(cluster, {Waiting("three", 3)}, {}, 1)), ElementsAre("three"));
}

TEST(Scheduler, FewerWorkersStartOnlyWhereMinWorkersAllowsIt) {
  Cluster cluster = Hosts({2, 2});
  auto elastic = Waiting("elastic", 4);
  elastic.min_workers = 2;
  EXPECT_EQ(Place(cluster, {elastic}, {}, 1).starts[0].shares, (Shares{{"n1", 2, {0, 1}}, {"n2", 2, {0, 1}}}));
  cluster.nodes[0].health = NodeHealth::kLost;
  EXPECT_EQ(Place(cluster, {elastic}, {}, 1).starts[0].shares, (Shares{{"n2", 2, {0, 1}}}));
  elastic.min_workers = 3;
  const auto placement = Place(cluster, {elastic}, {}, 1);
  EXPECT_THAT(Started(placement), IsEmpty());
  EXPECT_THAT(placement.waits[0].message, HasSubstr("it needs 3 workers"));
}

TEST(Scheduler, AJobTooLargeForAllNodesIsSpreadOverThemUnbound) {
  EXPECT_EQ(Place(Hosts({1, 3}), {Waiting("big", 8)}, {}, 1).starts[0].shares, (Shares{{"n1", 2, {}}, {"n2", 6, {}}}));
  const RunningJob running{"r", {{"n2", 1, {0}}}};
  EXPECT_THAT(Started(Place(Hosts({1, 3}), {Waiting("big", 8)}, {running}, 1)), IsEmpty());
  Cluster lost = Hosts({1, 3});
  lost.nodes[0].health = NodeHealth::kLost;
  EXPECT_THAT(Place(lost, {Waiting("big", 8)}, {}, 1).waits[0].message, HasSubstr("n1"));
}

// Hosts n1, n2, ... of eight cores and these GPUs.
Cluster GpuHosts(std::vector<std::vector<std::string>> gpus) {
  Cluster cluster;
  for (size_t i = 0; i < gpus.size(); ++i)
    cluster.nodes.push_back({.name = "n" + std::to_string(i + 1), .cores = 8, .gpus = std::move(gpus[i])});
  return cluster;
}
WaitingJob OnGpus(const std::string& id, int workers, int64_t queued_ms = 0, DeviceKind device = DeviceKind::kCuda) {
  WaitingJob job = Waiting(id, workers, queued_ms);
  job.device = device;
  job.device_field = std::string("resources.device: ") + DeviceKindName(device);
  return job;
}
WaitingJob OnAny(const std::string& id, int workers, int64_t queued_ms = 0) {
  return OnGpus(id, workers, queued_ms, DeviceKind::kAuto);
}

TEST(GpuScheduler, EachWorkerGetsAGpuOfItsOwnNode) {
  const auto placement = Place(GpuHosts({{"0"}, {"2", "GPU-8f", "5"}}), {OnGpus("a", 2, 1), OnGpus("b", 2, 2)}, {}, 10);
  ASSERT_EQ(placement.starts.size(), 2u);
  EXPECT_EQ(placement.starts[0].shares, (Shares{{"n2", 2, {0, 1}, {"2", "GPU-8f"}}}));
  EXPECT_EQ(placement.starts[0].device, DeviceKind::kCuda);
  EXPECT_EQ(placement.starts[1].shares, (Shares{{"n1", 1, {0}, {"0"}}, {"n2", 1, {2}, {"5"}}})) << "the first job's are taken";
}

TEST(GpuScheduler, TwoJobsOnOneGpuRunOneAfterTheOther) {
  const Cluster one = GpuHosts({{"0"}});
  EXPECT_THAT(Started(Place(one, {OnGpus("a", 1, 1), OnGpus("b", 1, 2)}, {}, 10)), ElementsAre("a"));
  const RunningJob running{"a", {{"n1", 1, {0}, {"0"}}}};
  EXPECT_THAT(Started(Place(one, {OnGpus("b", 1)}, {running}, 10)), IsEmpty()) << "there are cores enough";
  EXPECT_THAT(Started(Place(one, {OnGpus("b", 1)}, {}, 10)), ElementsAre("b"));
}

TEST(GpuScheduler, AJobOnTheCpuTakesNone) {
  const auto placement = Place(GpuHosts({{"0", "1"}}), {Waiting("cpu", 4, 1), OnGpus("gpu", 2, 2)}, {}, 10);
  ASSERT_THAT(Started(placement), ElementsAre("cpu", "gpu"));
  EXPECT_THAT(placement.starts[0].shares[0].gpus, IsEmpty());
  EXPECT_EQ(placement.starts[0].device, DeviceKind::kCpu);
  EXPECT_EQ(placement.starts[1].shares, (Shares{{"n1", 2, {4, 5}, {"0", "1"}}}));
}

TEST(GpuScheduler, MoreGpusThanThereAreIsHeldWhetherCoresMayBeSharedOrNot) {
  for (const bool oversubscribe : {true, false}) {
    Cluster cluster = GpuHosts({{"0"}, {}});
    cluster.allow_oversubscribe = oversubscribe;
    const auto placement = Place(cluster, {OnGpus("big", 2, 1), OnGpus("small", 1, 2)}, {}, 2 * kPassWindowMs);
    ASSERT_EQ(placement.holds.size(), 1u);
    EXPECT_EQ(placement.holds[0].reason, "TOO_LARGE");
    EXPECT_THAT(placement.holds[0].message,
                HasSubstr("it needs 2 GPUs, one for each of 2 workers (resources.device: cuda), and the 2 nodes have 1"));
    EXPECT_THAT(Started(placement), ElementsAre("small"));
  }
  auto held = OnGpus("big", 2);
  held.held = true;
  EXPECT_THAT(Started(Place(GpuHosts({{"0"}, {"0"}}), {held}, {}, 1)), ElementsAre("big")) << "a node was added";
}

TEST(GpuScheduler, GpusThatDoNotAnswerAreNamedWithTheirHostWhereTheyWouldHaveDone) {
  Cluster cluster = GpuHosts({{"1"}, {}});
  cluster.nodes[1].missing_gpus = {{"0", "no CUDA driver"}};
  const auto held = Place(cluster, {OnGpus("pair", 2)}, {}, 1);
  ASSERT_EQ(held.holds.size(), 1u);
  EXPECT_EQ(held.holds[0].reason, "NO_GPU");
  EXPECT_THAT(held.holds[0].message, HasSubstr("it needs 2 GPUs, one for each of 2 workers (resources.device: cuda), and the 2 nodes "
                                               "have 1 that answer: GPU 0 of n2 does not (no CUDA driver)"));
  EXPECT_THAT(held.holds[0].message, HasSubstr("--gpus"));
  EXPECT_EQ(Place(cluster, {OnGpus("three", 3)}, {}, 1).holds.at(0).reason, "TOO_LARGE") << "with them there would be too few too";
  EXPECT_THAT(Started(Place(cluster, {OnGpus("one", 1)}, {}, 1)), ElementsAre("one"));
  cluster.nodes[0].gpus.clear();
  EXPECT_EQ(Place(cluster, {OnAny("any", 1)}, {}, 1).starts.at(0).why,
            "device: auto takes the CPU: the nodes have no GPU that answers");
  cluster.nodes[0].missing_gpus = {{"0", "a"}, {"1", "a"}, {"2", "a"}, {"3", "a"}, {"4", "a"}, {"5", "a"}};
  EXPECT_THAT(Place(cluster, {OnGpus("one", 1)}, {}, 1).holds.at(0).message, HasSubstr("GPU 4 of n1 does not (a); and 2 more"));
}

TEST(GpuScheduler, NobodyIsHeldBeforeEveryNodeHasToldItsGpus) {
  Cluster cluster = GpuHosts({{}, {}});
  cluster.nodes[1].gpus_told = false;
  for (const NodeHealth health : {NodeHealth::kChecking, NodeHealth::kReady}) {  // a READY one was recorded by an earlier release
    cluster.nodes[1].health = health;
    const auto undecided = Place(cluster, {OnGpus("gpu", 1, 1), OnAny("any", 1, 2), Waiting("cpu", 1, 3)}, {}, 2 * kPassWindowMs);
    EXPECT_THAT(undecided.holds, IsEmpty());
    EXPECT_THAT(Started(undecided), ElementsAre("cpu"));
  }
  cluster.nodes[1].health = NodeHealth::kLost;
  const auto decided = Place(cluster, {OnGpus("gpu", 1, 1), OnAny("any", 1, 2)}, {}, 10);
  EXPECT_EQ(decided.holds.size(), 1u);
  EXPECT_THAT(Started(decided), ElementsAre("any"));
}

TEST(GpuScheduler, CoresElsewhereThanBesideTheGpusDoNotCount) {
  Cluster cluster = GpuHosts({{"0", "1"}, {}});
  cluster.nodes[0].cores = 2;
  cluster.allow_oversubscribe = false;
  WaitingJob job = OnGpus("a", 2);
  job.threads_per_worker = 2;
  const auto placement = Place(cluster, {job}, {}, 1);
  ASSERT_EQ(placement.holds.size(), 1u);
  EXPECT_THAT(placement.holds[0].message,
              HasSubstr("it needs 2 workers of 2 threads and a GPU each (resources.device: cuda), all of a "
                        "worker on one node, the 2 nodes have room for 1 and oversubscribing is "
                        "switched off"));
  cluster.nodes[1].gpus_told = false;
  EXPECT_THAT(Place(cluster, {job}, {}, 1).holds, IsEmpty()) << "the other may have GPUs beside its cores";
}

TEST(GpuScheduler, AutoTakesGpusWhereThereIsOneForEachWorker) {
  const auto on_gpus = Place(GpuHosts({{"0", "1"}}), {OnAny("a", 2)}, {}, 1);
  ASSERT_EQ(on_gpus.starts.size(), 1u);
  EXPECT_EQ(on_gpus.starts[0].device, DeviceKind::kCuda);
  EXPECT_THAT(on_gpus.starts[0].shares[0].gpus, ElementsAre("0", "1"));
  EXPECT_EQ(on_gpus.starts[0].why, "device: auto takes CUDA: the node has 2 GPUs for its 2 workers");
  const auto too_few = Place(GpuHosts({{"0", "1"}}), {OnAny("a", 3)}, {}, 1);
  ASSERT_EQ(too_few.starts.size(), 1u);
  EXPECT_EQ(too_few.starts[0].device, DeviceKind::kCpu);
  EXPECT_THAT(too_few.starts[0].shares[0].gpus, IsEmpty());
  EXPECT_EQ(too_few.starts[0].why, "device: auto takes the CPU: the node has 2 GPUs for its 3 workers");
  EXPECT_EQ(Place(GpuHosts({{}, {}}), {OnAny("a", 1)}, {}, 1).starts[0].why, "device: auto takes the CPU: the nodes have no GPU");
  EXPECT_EQ(Place(GpuHosts({{"0"}}), {OnGpus("a", 1)}, {}, 1).starts[0].why, "") << "nothing was left open";
}

TEST(GpuScheduler, AutoWaitsForBusyGpusAsCudaDoes) {
  const RunningJob running{"r", {{"n1", 1, {0}, {"0"}}}};
  EXPECT_THAT(Started(Place(GpuHosts({{"0"}}), {OnAny("a", 1)}, {running}, 1)), IsEmpty());
}

TEST(GpuScheduler, AutoLooksAtCoresBesideTheGpus) {
  WaitingJob wide = OnAny("wide", 2);
  wide.threads_per_worker = 8;
  Cluster cluster = GpuHosts({{"0", "1"}, {}});
  const auto placement = Place(cluster, {wide}, {}, 1);
  ASSERT_EQ(placement.starts.size(), 1u);
  EXPECT_EQ(placement.starts[0].device, DeviceKind::kCpu);
  EXPECT_THAT(placement.starts[0].why, HasSubstr("not beside 8 free cores for each of its 2 workers"));
  cluster.nodes.pop_back();
  const auto crowded = Place(cluster, {wide}, {}, 1);
  ASSERT_EQ(crowded.starts.size(), 1u);
  EXPECT_EQ(crowded.starts[0].shares, (Shares{{"n1", 2, {}, {"0", "1"}}})) << "its cores have to be shared anyway";
}

TEST(GpuScheduler, FewerWorkersStartWhereMinWorkersAllowsIt) {
  auto elastic = OnGpus("elastic", 4);
  elastic.min_workers = 2;
  const RunningJob running{"r", {{"n1", 1, {0}, {"0"}}}};
  const auto placement = Place(GpuHosts({{"0", "1"}, {"0"}}), {elastic}, {running}, 1);
  ASSERT_EQ(placement.starts.size(), 1u);
  EXPECT_EQ(placement.starts[0].shares, (Shares{{"n1", 1, {1}, {"1"}}, {"n2", 1, {0}, {"0"}}}));
}

TEST(GpuScheduler, ALostHostsGpusAreWaitedForByName) {
  Cluster cluster = GpuHosts({{"0"}, {"0"}});
  cluster.nodes[1].health = NodeHealth::kLost;
  for (const auto& job : {OnGpus("a", 2), OnAny("a", 2)}) {
    const auto placement = Place(cluster, {job}, {}, 1);
    EXPECT_THAT(Started(placement), IsEmpty());
    ASSERT_EQ(placement.waits.size(), 1u);
    EXPECT_THAT(placement.waits[0].message, HasSubstr("waiting for host n2"));
    EXPECT_THAT(placement.waits[0].message,
                HasSubstr("2 workers of 1 threads and a GPU each, and the nodes that answer have room for 1"));
  }
}

TEST(GpuScheduler, OneThatWaitsForGpusSaysWhoHasThem) {
  const Cluster cluster = GpuHosts({{"0", "1"}, {"0", "GPU-8f"}});
  const std::vector<RunningJob> running{{"vgg-d-3", {{"n1", 1, {0}, {"0"}}, {"n2", 1, {0}, {"GPU-8f"}}}}, {"cpu", {{"n1", 1, {1}}}}};
  auto delayed = OnGpus("vgg-e-1", 1, 1);
  delayed.delayed = true;
  const auto placement = Place(cluster, {delayed, OnGpus("new", 1, 2), OnGpus("pair", 2, 3), OnAny("any", 1, 4), Waiting("free", 1, 5)}, running, 10);
  EXPECT_THAT(Started(placement), ElementsAre("new", "free"));
  ASSERT_EQ(placement.waits.size(), 2u) << "not the one in its restart delay, nor one for the CPU";
  EXPECT_EQ(placement.waits[0].id, "pair");
  EXPECT_EQ(placement.waits[0].reason, "WAITING_FOR_GPU");
  EXPECT_EQ(placement.waits[0].message, "waits for 2 GPUs: vgg-d-3 holds n1:0 and n2:GPU-8f; n1:1 is kept for vgg-e-1, which stands before it; "
                                        "new holds n2:0");
  EXPECT_THAT(placement.waits[1].message, HasSubstr("waits for 1 GPU: vgg-d-3 holds"));
}

TEST(GpuScheduler, OneWhoseGpusAreFreeButNotTheCoresBesideThemSaysSo) {
  WaitingJob wide = OnGpus("wide", 1);
  wide.threads_per_worker = 8;
  const auto placement = Place(GpuHosts({{"0"}}), {wide}, {{"cpu", {{"n1", 1, {3}}}}}, 10);
  ASSERT_EQ(placement.waits.size(), 1u);
  EXPECT_EQ(placement.waits[0].reason, "WAITING_FOR_CORES");
  EXPECT_THAT(placement.waits[0].message, HasSubstr("not beside 8 free cores for each"));
}

TEST(GpuScheduler, AJobInItsRestartDelayKeepsItsGpus) {
  auto delayed = OnGpus("delayed", 1, 1);
  delayed.delayed = true;
  EXPECT_THAT(Started(Place(GpuHosts({{"0"}}), {delayed, OnGpus("next", 1, 2), Waiting("cpu", 1, 3)}, {}, 10)), ElementsAre("cpu"));
}

TEST(GpuScheduler, OneThatHasWaitedForGpusKeepsWhatItCouldTakeAndNoMore) {
  const RunningJob running{"r", {{"n1", 1, {0}, {"0"}}}};
  const auto started = [&](const WaitingJob& next, int64_t now_ms) {
    return Started(Place(GpuHosts({{"0"}, {}}), {OnGpus("gpu", 1, 0), next}, {running}, now_ms));
  };
  const WaitingJob cpu = Waiting("cpu", 14, 1), wide = Waiting("wide", 15, 1);
  EXPECT_THAT(started(cpu, kPassWindowMs), ElementsAre("cpu")) << "the host without GPUs, and six of the other's cores";
  EXPECT_THAT(started(wide, kPassWindowMs - 1), ElementsAre("wide"));
  EXPECT_THAT(started(wide, kPassWindowMs), IsEmpty()) << "one core beside the GPU is kept free";
  EXPECT_THAT(started(OnGpus("other", 1, 1), kPassWindowMs), IsEmpty());
}

TEST(GpuScheduler, WhatOthersTakeBesideItDoesNotDelayIt) {
  const Cluster cluster = GpuHosts({{"0", "1", "2"}});
  WaitingJob pair = OnGpus("pair", 2, 0);
  pair.threads_per_worker = 3;
  const RunningJob on_two{"r", {{"n1", 2, {0, 1}, {"0", "1"}}}};
  const WaitingJob gpu = OnGpus("gpu", 1, 1), small = Waiting("small", 1, 2);
  EXPECT_THAT(Started(Place(cluster, {pair, gpu, small}, {on_two}, kPassWindowMs - 1)), ElementsAre("gpu", "small"));
  EXPECT_THAT(Started(Place(cluster, {pair, gpu, small}, {on_two}, kPassWindowMs)), IsEmpty())
      << "GPU 2 and the six free cores are all that it may need here";
  const auto freed = Place(cluster, {pair, gpu, small}, {}, kPassWindowMs);
  ASSERT_THAT(Started(freed), ElementsAre("pair", "gpu", "small"));
  EXPECT_THAT(freed.starts[0].shares[0].gpus, ElementsAre("0", "1"));
}

TEST(Scheduler, CoresThatNoWorkerOfTheFirstCouldUseAreNotKeptForIt) {
  WaitingJob wide = Waiting("wide", 2, 0);
  wide.threads_per_worker = 3;
  const std::vector<RunningJob> running{{"r", {{"n1", 1, {0}}}}, {"s", {{"n2", 2, {0, 1}}}}};
  const auto next = [&](int workers) {
    return Started(Place(Hosts({4, 4, 2}), {wide, Waiting("next", workers, 1)}, running, kPassWindowMs));
  };
  EXPECT_THAT(next(2), ElementsAre("next")) << "on n3, which is too small for its workers";
  EXPECT_THAT(next(3), IsEmpty());
}

TEST(Scheduler, NothingStartsBehindOneThatHasWaitedForAllNodesAtOnce) {
  const std::vector<WaitingJob> line{Waiting("big", 9, 0), Waiting("small", 1, 1)};
  const RunningJob running{"r", {{"n1", 1, {0}}}};
  EXPECT_THAT(Started(Place(Hosts({4, 4}), line, {running}, kPassWindowMs - 1)), ElementsAre("small"));
  EXPECT_THAT(Started(Place(Hosts({4, 4}), line, {running}, kPassWindowMs)), IsEmpty());
}

}  // namespace
}  // namespace plateau
