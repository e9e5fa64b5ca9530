// Worker link messages survive encoding, and broken ones are refused by field.
#include "common/messages.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace plateau {
namespace {

const Sender kSender{"job-1", 2, "secret", 3, "node-a", 77, 9};

template <typename T>
T RoundTrip(const T& message) {
  const auto decoded = DecodeWorkerMessage(EncodeWorkerMessage(kSender, message));
  EXPECT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(decoded->first.job, "job-1");
  EXPECT_EQ(decoded->first.attempt, 2);
  EXPECT_EQ(decoded->first.request, 9u);
  return std::get<T>(decoded->second);
}

TEST(Messages, WorkerMessagesRoundTrip) {
  const Heartbeat heartbeat = RoundTrip(Heartbeat{5, "forward", 812, 41});
  EXPECT_EQ(heartbeat.phase, "forward");
  EXPECT_EQ(heartbeat.progress, 812);
  EXPECT_EQ(heartbeat.collective, 41);
  EXPECT_DOUBLE_EQ(RoundTrip(Metrics{5, 0.1, 1.0 / 3, 0.01, 200, 0.02}).loss, 1.0 / 3);
  EXPECT_EQ(RoundTrip(ValidationReport{1, 156, 1.0, 1000, 51, 252, 3.05}).top5_correct, 252);
  EXPECT_EQ(RoundTrip(CheckpointReport{156, 1, 0.949, "attempt-1/step-000000156", 12, true}).path, "attempt-1/step-000000156");
  EXPECT_EQ(RoundTrip(CheckpointReport{156, 1, 0.949, "attempt-1/step-000000156", 12, true, 3}).order, 3);
  EXPECT_EQ(RoundTrip(CheckpointReport{.step = 156, .lineage = 2}).lineage, 2);
  EXPECT_EQ(RoundTrip(Finished{10, "PLATEAU"}).reason, "PLATEAU");
  EXPECT_EQ(RoundTrip(Finished{10, "PLATEAU"}).result, "");
  EXPECT_EQ(RoundTrip(Finished{0, "EVALUATED", R"({"images":10})"}).result, R"({"images":10})");
  EXPECT_FALSE(RoundTrip(Failed{"NAN_LOSS", "m", 7, "conv1_1", false}).retry);
  const Register joined = RoundTrip(Register{"k1", R"({"name":"a"})", {"node-a", "node-b"}});
  EXPECT_EQ(joined.key, "k1");
  EXPECT_EQ(joined.spec, R"({"name":"a"})");
  EXPECT_EQ(joined.hosts, (std::vector<std::string>{"node-a", "node-b"}));
}

TEST(Messages, NotANumberTravels) { EXPECT_TRUE(std::isnan(RoundTrip(Metrics{5, 0.1, std::nan(""), 0.01, 200, 0}).loss)); }

TEST(Messages, RepliesRoundTripToTheBit) {
  const LrDecision decision{4, LrAction::kDecay, 0.1 * 0.01, true, "plateau: \"x\""};
  const auto reply = DecodeReply(EncodeReply(12, DecisionReply{decision}));
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->first, 12u);
  EXPECT_EQ(std::get<DecisionReply>(reply->second).decision, decision);
  EXPECT_EQ(std::get<HeartbeatReply>(DecodeReply(EncodeReply(1, HeartbeatReply{WorkerCommand::kStop}))->second).command, WorkerCommand::kStop);
  const auto order = std::get<HeartbeatReply>(DecodeReply(EncodeReply(1, HeartbeatReply{WorkerCommand::kCheckpoint, 4}))->second);
  EXPECT_EQ(order.command, WorkerCommand::kCheckpoint);
  EXPECT_EQ(order.order, 4);
  EXPECT_EQ(std::get<Refused>(DecodeReply(EncodeReply(1, Refused{"old"}))->second).reason, "old");
  const auto registered = std::get<Registered>(DecodeReply(EncodeReply(1, Registered{"a-1", 2, "t"}))->second);
  EXPECT_EQ(registered.job, "a-1");
  EXPECT_EQ(registered.attempt, 2);
  EXPECT_EQ(registered.token, "t");
}

TEST(Messages, BrokenOnesNameTheField) {
  EXPECT_FALSE(DecodeWorkerMessage("{"));
  const auto missing = DecodeWorkerMessage(R"({"version":2,"job":"a"})");
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, testing::HasSubstr("attempt"));
  EXPECT_THAT(DecodeReply(R"({"version":1})").error().message, testing::HasSubstr("same release"));
}

TEST(Messages, ErrorsAreExactFractions) {
  const ValidationReport report{1, 1, 1, 1000, 639, 898, 1.2};
  EXPECT_EQ(report.Metric("val_top1_error"), 0.361);
  EXPECT_EQ(report.Metric("val_top5_error"), 0.102);
  EXPECT_DOUBLE_EQ(report.Metric("val_loss"), 1.2);
  const ValidationReport odd{1, 1, 1, 1000, 303, 603, 1.2};
  EXPECT_EQ(fmt::format("{} {}", odd.Top1Error(), odd.Top5Error()), "0.697 0.397") << "no trace of a second rounding";
}

}  // namespace
}  // namespace plateau
