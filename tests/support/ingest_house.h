// For tests of ingests through a coordinator: a small source on the disk, orders of it, and workers played by the test.
#pragma once

#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <zmq.hpp>

#include "common/checksum.h"
#include "common/ingest_messages.h"
#include "dataset/ingest.h"
#include "dataset/ingest_order.h"
#include "dataset/ingest_result.h"
#include "dataset/synthesize.h"
#include "tests/support/coordinator_daemon.h"

namespace plateau::test {

// Tars of a synthetic set in a home's folder, and orders of it.
class IngestHouse : public CoordinatorHome {
 public:
  explicit IngestHouse(uint64_t train = 60, uint64_t val = 12) {
    PosixFileSystem files;
    auto source = OpenSynthetic({.classes = 3, .train = train, .val = val, .side = 16});
    EXPECT_TRUE(source.has_value());
    EXPECT_TRUE(WriteIlsvrc(files, *source, path("set")).has_value());
    options.ingest_limits.first_restart_delay_ms = 10;
  }
  IngestOrder Order(const std::string& out, int workers = 0, uint64_t shards = 4) const {
    IngestOrder order;
    order.source = {.train = path("set/train.tar"),
                    .val = path("set/val.tar"),
                    .val_labels = path("set/val.txt"),
                    .synsets = path("set/synset_words.txt")};
    order.options.out = path(out);
    order.options.shards = shards;
    order.options.quiet = true;
    order.workers = workers;
    return order;
  }
  // The content checksums of the local ingest.
  std::vector<std::string> Local(const std::string& out) const {
    PosixFileSystem files;
    const IngestOrder order = Order(out);
    const auto source = OpenSource(order.source);
    EXPECT_TRUE(source.has_value()) << source.error().message;
    const auto report = Ingest(files, SystemClock(), *source, order.options);
    EXPECT_TRUE(report.has_value()) << report.error().message;
    return report ? Checksums(report->manifest) : std::vector<std::string>();
  }
  std::vector<std::string> Published(const std::string& out) const {
    PosixFileSystem files;
    const auto manifest = LoadManifest(files, path(out));
    EXPECT_TRUE(manifest.has_value()) << manifest.error().message;
    return manifest ? Checksums(*manifest) : std::vector<std::string>();
  }
  static std::vector<std::string> Checksums(const Manifest& manifest) {
    std::vector<std::string> checksums;
    for (const auto& split : manifest.splits) checksums.push_back(split.checksum);
    return checksums;
  }
  std::string Token() const {
    PosixFileSystem files;
    std::string token = files.Read(path("state/join-token")).value();
    token.pop_back();
    return token;
  }
};

inline std::string PostOrder(const Daemon& daemon, const IngestOrder& order) {
  const auto answer = PostJson(daemon, "/v1/datasets", IngestOrderToJson(order).dump());
  EXPECT_EQ(answer.status, 201) << answer.body;
  return nlohmann::json::parse(answer.body).value("id", "");
}
inline bool IngestReaches(const Daemon& daemon, const std::string& id, const std::string& state) {
  const bool reached = Eventually([&] { return GetJson(daemon, "/v1/datasets/" + id).value("state", "") == state; });
  EXPECT_TRUE(reached) << GetJson(daemon, "/v1/datasets/" + id).dump(1);
  return reached;
}
// Messages of the events of a type, with their field `field` as text.
inline std::vector<std::string> IngestEvents(const Daemon& daemon, const std::string& id, const std::string& type,
                                             const std::string& field = "shard") {
  std::vector<std::string> found;
  const auto answer = GetJson(daemon, "/v1/datasets/" + id + "/events");
  for (const auto& event : answer.at("events"))
    if (event.at("type") == type) found.push_back(event.contains(field) ? event.at(field).dump() : "");
  return found;
}

// One building thread of a worker, played by the test: it speaks the wire's JSON and builds real shards.
class FakeBuilder {
 public:
  FakeBuilder(const IngestHouse& house, const Daemon& daemon, const std::string& name)
      : sender_{.token = house.Token(), .worker = name, .host = "node", .pid = 7}, socket_(context_, zmq::socket_type::dealer) {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::rcvtimeo, 2'000);
    socket_.connect(daemon.link_endpoint());
  }
  IngestSender& sender() { return sender_; }

  // Asks, again every two seconds, until the answer comes.
  IngestReply Ask(const IngestMessage& message) {
    sender_.request += 1;
    for (int i = 0; i < 15; ++i) {
      socket_.send(zmq::buffer(EncodeIngestMessage(sender_, message)), zmq::send_flags::none);
      zmq::message_t text;
      while (socket_.recv(text).has_value()) {
        auto reply = DecodeIngestReply(text.to_string_view());
        EXPECT_TRUE(reply.has_value()) << (reply ? "" : reply.error().message);
        if (!reply) break;
        if ((reply->first == sender_.request || reply->first == 0) && !std::holds_alternative<KeepWaiting>(reply->second))
          return reply->second;
      }
    }
    ADD_FAILURE() << "no reply";
    return IngestRefused{"no reply"};
  }
  // A shard's lease; fails the test when there is none.
  TaskGranted AskForShard() {
    const IngestReply reply = Ask(AskTask{});
    const auto* granted = std::get_if<TaskGranted>(&reply);
    EXPECT_NE(granted, nullptr);
    return granted == nullptr ? TaskGranted{} : *granted;
  }
  // Builds it in the lease's folder; what to report.
  static ShardBuilt Build(const TaskGranted& task) {
    PosixFileSystem files;
    const auto order = IngestOrderFromJson(nlohmann::json::parse(task.order), "order");
    EXPECT_TRUE(order.has_value());
    const auto source = OpenSource(order->source);
    EXPECT_TRUE(source.has_value());
    const IngestPlan plan = PlanIngest(*source, order->options);
    EXPECT_EQ(ChecksumText(Checksum(plan.text)), task.plan_checksum);
    auto result = BuildShard(files, plan.Task(task.task, task.folder + "/shard"), [](const RejectedImage*) { return Status(); });
    if (!result.has_value()) {
      ADD_FAILURE() << result.error().message;
      return {};
    }
    result->info.folder = task.shard;
    const std::string text = ShardResultText(*result);
    EXPECT_TRUE(WriteFileAtomic(files, task.folder + "/result.json", text).has_value());
    return {task.dataset, task.lease, ChecksumText(Checksum(text))};
  }
  // Builds until there is nothing left; the number of shards that were committed.
  int BuildAll() {
    for (int committed = 0;;) {
      const IngestReply reply = Ask(AskTask{});
      const auto* task = std::get_if<TaskGranted>(&reply);
      if (task == nullptr) return committed;
      committed += std::holds_alternative<ShardCommitted>(Ask(Build(*task))) ? 1 : 0;
    }
  }

 private:
  IngestSender sender_;
  zmq::context_t context_;
  zmq::socket_t socket_;
};

}  // namespace plateau::test
