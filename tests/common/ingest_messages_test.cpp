// What ingest workers and the coordinator say to each other survives the wire; anything else is refused by name.
#include "common/ingest_messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/messages.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;

const IngestSender kSender{"secret", "node-7-ab/0", "node", 7, "set-1", 2, 3, 44};

template <typename T>
T Carried(const T& message) {
  const auto decoded = DecodeIngestMessage(EncodeIngestMessage(kSender, message));
  EXPECT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(decoded->first.token, "secret");
  EXPECT_EQ(decoded->first.worker, "node-7-ab/0");
  EXPECT_EQ(decoded->first.dataset, "set-1");
  EXPECT_EQ(decoded->first.slot, 2);
  EXPECT_EQ(decoded->first.attempt, 3);
  EXPECT_EQ(decoded->first.request, 44u);
  return std::get<T>(decoded->second);
}

template <typename T>
T Answered(const T& reply) {
  const auto decoded = DecodeIngestReply(EncodeIngestReply(9, reply));
  EXPECT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(decoded->first, 9u);
  return std::get<T>(decoded->second);
}

TEST(IngestMessages, SurviveTheWire) {
  EXPECT_TRUE(Carried(AskTask{true}).stay);
  const auto renewed = Carried(RenewLease{"set-1", 5, 100, 3});
  EXPECT_EQ(renewed.lease, 5);
  EXPECT_EQ(renewed.images, 100u);
  EXPECT_EQ(renewed.rejected, 3u);
  const auto built = Carried(ShardBuilt{"set-1", 5, "abc", true});
  EXPECT_EQ(built.checksum, "abc");
  EXPECT_TRUE(built.too_many_rejected);
  EXPECT_EQ(Carried(BuildFailed{"set-1", 5, "disk \xff"}).lease, 5);
  EXPECT_EQ(Carried(ReturnLease{"set-1", 6}).lease, 6);
  const auto task = Answered(TaskGranted{"set-1", 5, 20'000, 7, "train/00003", "/out/ingest/lease-a-5", "{\"a\":1}", "sum", 12});
  EXPECT_EQ(task.shard, "train/00003");
  EXPECT_EQ(task.order, "{\"a\":1}");
  EXPECT_EQ(task.reject_limit, 12u);
  EXPECT_EQ(Answered(LeaseOver{5, "late"}).reason, "late");
  EXPECT_EQ(Answered(LeaseHeld{5}).lease, 5);
  EXPECT_EQ(Answered(ShardCommitted{5}).lease, 5);
  EXPECT_EQ(Answered(IngestRefused{"token"}).reason, "token");
  Answered(NoTask{});
  Answered(KeepWaiting{});
}

TEST(IngestMessages, AreToldFromTheRanksOnes) {
  EXPECT_TRUE(IsIngestMessage(EncodeIngestMessage(kSender, AskTask{})));
  EXPECT_FALSE(IsIngestMessage(EncodeWorkerMessage({.job = "\"ingest_ask\""}, Heartbeat{})));
  EXPECT_FALSE(IsIngestMessage("\"ingest_ask\""));
  EXPECT_FALSE(IsIngestMessage("{\"ingest_"));
}

TEST(IngestMessages, ThatAreIncompleteOrOfAnotherVersionAreRefused) {
  const auto missing = DecodeIngestMessage(R"({"version":1,"type":"ingest_ask","token":"x"})");
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr("worker"));
  std::string text = EncodeIngestMessage(kSender, AskTask{});
  text.replace(text.find("\"version\":1"), 11, "\"version\":2");
  ASSERT_FALSE(DecodeIngestMessage(text));
  EXPECT_THAT(DecodeIngestMessage(text).error().message, HasSubstr("version 2"));
  // The link's answer to what it cannot read has the ranks' form.
  const auto refused = DecodeIngestReply(EncodeReply(0, Refused{"worker message: no JSON"}));
  ASSERT_TRUE(refused) << refused.error().message;
  EXPECT_EQ(std::get<IngestRefused>(refused->second).reason, "worker message: no JSON");
}

}  // namespace
}  // namespace plateau
