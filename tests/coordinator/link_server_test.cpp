// The worker link over real ZeroMQ sockets.
#include "coordinator/link/link_server.h"

#include <condition_variable>
#include <deque>
#include <mutex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zmq.hpp>

namespace plateau {
namespace {

using ::testing::HasSubstr;

class LinkServerTest : public ::testing::Test {
 protected:
  LinkServerTest() : dealer_(context_, zmq::socket_type::dealer) {
    auto link = LinkServer::Start({.address = "127.0.0.1:0", .max_replies = 100}, clock_, [this](LinkMessage message) {
      const std::lock_guard lock(mutex_);
      if (!accept_) return false;
      heard_.push_back(std::move(message));
      came_.notify_one();
      return true;
    });
    link_ = std::move(*link);
    dealer_.set(zmq::sockopt::linger, 0);
    dealer_.set(zmq::sockopt::rcvtimeo, 20'000);
    dealer_.connect(link_->endpoint());
  }

  LinkMessage Heard() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(came_.wait_for(lock, std::chrono::seconds(20), [this] { return !heard_.empty(); }));
    LinkMessage message = std::move(heard_.front());
    heard_.pop_front();
    return message;
  }
  void Send(const std::string& text) { dealer_.send(zmq::buffer(text), zmq::send_flags::none); }
  std::pair<uint64_t, CoordinatorReply> Receive() {
    zmq::message_t text;
    EXPECT_TRUE(dealer_.recv(text).has_value());
    return DecodeReply(text.to_string_view()).value();
  }

  SystemClock clock_;
  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<LinkMessage> heard_;
  bool accept_ = true;
  zmq::context_t context_;
  std::unique_ptr<LinkServer> link_;
  zmq::socket_t dealer_;
};

const Sender kSender{.job = "small-1", .attempt = 2, .token = "t", .rank = 1, .host = "h", .pid = 3, .request = 77};

TEST_F(LinkServerTest, AMessageComesInAndItsReplyGoesBack) {
  Send(EncodeWorkerMessage(kSender, Heartbeat{12, "forward"}));
  const LinkMessage message = Heard();
  EXPECT_EQ(message.sender.job, "small-1");
  EXPECT_EQ(std::get<Heartbeat>(message.message).step, 12);
  EXPECT_GT(message.heard_ms, 0);
  link_->Reply(message.identity, message.sender.request, HeartbeatReply{WorkerCommand::kStop});
  const auto [request, reply] = Receive();
  EXPECT_EQ(request, 77u);
  EXPECT_EQ(std::get<HeartbeatReply>(reply).command, WorkerCommand::kStop);
}

TEST_F(LinkServerTest, EachPeerGetsItsOwnReply) {
  zmq::socket_t other(context_, zmq::socket_type::dealer);
  other.set(zmq::sockopt::linger, 0);
  other.set(zmq::sockopt::rcvtimeo, 20'000);
  other.connect(link_->endpoint());
  Send(EncodeWorkerMessage(kSender, Heartbeat{1, "data"}));
  const auto first = Heard();
  other.send(zmq::buffer(EncodeWorkerMessage(kSender, Heartbeat{2, "data"})), zmq::send_flags::none);
  const auto second = Heard();
  EXPECT_NE(first.identity, second.identity);
  link_->Reply(second.identity, 2, HeartbeatReply{});
  link_->Reply(first.identity, 1, HeartbeatReply{});
  EXPECT_EQ(Receive().first, 1u);
  zmq::message_t text;
  ASSERT_TRUE(other.recv(text).has_value());
  EXPECT_EQ(DecodeReply(text.to_string_view())->first, 2u);
}

TEST_F(LinkServerTest, BadMessagesAreRefusedAndTheLinkGoesOn) {
  for (const std::string& bad :
       std::vector<std::string>{"", "{", "{}", R"({"version":99,"type":"heartbeat"})", R"({"version":2,"type":"dance"})",
                                std::string(200'000, '[') + std::string(200'000, ']')}) {
    Send(bad);
    const auto [request, reply] = Receive();
    EXPECT_EQ(request, 0u);
    EXPECT_TRUE(std::holds_alternative<Refused>(reply)) << bad.substr(0, 50);
  }
  zmq::message_t part("{}", 2), rest("{}", 2);
  dealer_.send(part, zmq::send_flags::sndmore);
  dealer_.send(rest, zmq::send_flags::none);
  EXPECT_TRUE(std::holds_alternative<Refused>(Receive().second)) << "several frames";
  Send(EncodeWorkerMessage(kSender, Heartbeat{5, "data"}));
  EXPECT_EQ(std::get<Heartbeat>(Heard().message).step, 5);
}

TEST_F(LinkServerTest, AReplyToAPeerThatIsGoneIsForgotten) {
  link_->Reply("nobody", 1, HeartbeatReply{});
  Send(EncodeWorkerMessage(kSender, Heartbeat{5, "data"}));
  const auto message = Heard();
  link_->Reply(message.identity, 9, HeartbeatReply{});
  EXPECT_EQ(Receive().first, 9u);
}

TEST_F(LinkServerTest, ATakenAddressIsNamed) {
  const auto second = LinkServer::Start({.address = link_->endpoint().substr(6)}, clock_, [](LinkMessage) { return true; });
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
  EXPECT_THAT(second.error().message, HasSubstr("--link"));
}

}  // namespace
}  // namespace plateau
