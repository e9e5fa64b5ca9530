// The link against a coordinator played by the test: heartbeats, repeated questions, stop, refusal, absence and return.
#include "worker/train/coordinator_link.h"

#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zmq.hpp>

namespace plateau {
namespace {

// A ROUTER that the test serves by hand.
class FakeCoordinator {
 public:
  explicit FakeCoordinator(const std::string& address = "tcp://127.0.0.1:*") : socket_(context_, zmq::socket_type::router) {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::rcvtimeo, 10'000);
    socket_.bind(address);
    address_ = socket_.get(zmq::sockopt::last_endpoint);
  }
  const std::string& address() const { return address_; }

  struct Received {
    std::string peer;
    Sender sender;
    WorkerMessage message;
  };
  Received Next() {
    zmq::message_t peer, text;
    if (!socket_.recv(peer) || !socket_.recv(text)) throw std::runtime_error("no message within 10 s");
    auto decoded = DecodeWorkerMessage(text.to_string());
    if (!decoded) throw std::runtime_error(decoded.error().message);
    return {peer.to_string(), decoded->first, decoded->second};
  }
  // The next message of this kind; answers heartbeats on the way.
  template <typename T>
  Received NextOf() {
    while (true) {
      Received received = Next();
      if (std::holds_alternative<T>(received.message)) return received;
      if (std::holds_alternative<Heartbeat>(received.message)) Answer(received, HeartbeatReply{});
    }
  }
  void Answer(const Received& to, const CoordinatorReply& reply) {
    socket_.send(zmq::buffer(to.peer), zmq::send_flags::sndmore);
    socket_.send(zmq::buffer(EncodeReply(to.sender.request, reply)), zmq::send_flags::none);
  }

 private:
  zmq::context_t context_;
  zmq::socket_t socket_;
  std::string address_;
};

class Link : public ::testing::Test {
 protected:
  std::unique_ptr<CoordinatorLink> Open(const std::string& address) {
    auto link = CoordinatorLink::Open(
        {.address = address, .job = "job-1", .token = "secret", .attempt = 3, .rank = 1, .heartbeat_ms = 50, .repeat_ms = 100},
        pulse_, stop_, [this](const std::string& reason) { refused_.set_value(reason); });
    EXPECT_TRUE(link) << link.error().message;
    return std::move(*link);
  }
  Pulse pulse_;
  StopFlag stop_;
  std::promise<std::string> refused_;
};

TEST_F(Link, HeartbeatsCarryIdentityStepPhaseAndProgress) {
  FakeCoordinator coordinator;
  pulse_.step = 41;
  pulse_.phase = "backward";
  pulse_.progress = 977;
  pulse_.collective = 12;
  const auto link = Open(coordinator.address());
  const auto first = coordinator.NextOf<Heartbeat>(), second = coordinator.NextOf<Heartbeat>();
  EXPECT_EQ(first.sender.job, "job-1");
  EXPECT_EQ(first.sender.attempt, 3);
  EXPECT_EQ(first.sender.token, "secret");
  EXPECT_EQ(first.sender.rank, 1);
  EXPECT_EQ(first.sender.pid, getpid());
  EXPECT_EQ(std::get<Heartbeat>(first.message).step, 41);
  EXPECT_EQ(std::get<Heartbeat>(first.message).phase, "backward");
  EXPECT_EQ(std::get<Heartbeat>(first.message).progress, 977);
  EXPECT_EQ(std::get<Heartbeat>(first.message).collective, 12);
  EXPECT_GT(second.sender.request, first.sender.request);
}

TEST_F(Link, AQuestionIsRepeatedWithTheSameNumberUntilItIsAnswered) {
  FakeCoordinator coordinator;
  const auto link = Open(coordinator.address());
  auto answer =
      std::async(std::launch::async, [&] { return link->Ask({.number = 7, .step = 700, .images = 10, .top1_correct = 4}); });
  const auto first = coordinator.NextOf<ValidationReport>(), again = coordinator.NextOf<ValidationReport>();
  EXPECT_EQ(first.sender.request, again.sender.request);
  EXPECT_EQ(std::get<ValidationReport>(again.message).top1_correct, 4);
  coordinator.NextOf<Heartbeat>();  // heartbeats go on while it waits
  coordinator.Answer(again, DecisionReply{{.validation = 7, .action = LrAction::kDecay, .lr = 0.001, .reason = "plateau"}});
  const auto decision = answer.get();
  ASSERT_TRUE(decision) << decision.error().message;
  EXPECT_EQ(decision->lr, 0.001);
  EXPECT_EQ(decision->action, LrAction::kDecay);
}

TEST_F(Link, AStopEndsTheWaitForADecision) {
  FakeCoordinator coordinator;
  const auto link = Open(coordinator.address());
  auto answer = std::async(std::launch::async, [&] { return link->Ask({.number = 1}); });
  coordinator.NextOf<ValidationReport>();
  coordinator.Answer(coordinator.NextOf<Heartbeat>(), HeartbeatReply{WorkerCommand::kStop});
  const auto decision = answer.get();
  ASSERT_FALSE(decision);
  EXPECT_EQ(decision.error().code, ErrorCode::kUnavailable);
  EXPECT_TRUE(stop_.raised());
}

TEST_F(Link, AnOrderForACheckpointIsKnownByItsNumber) {
  FakeCoordinator coordinator;
  const auto link = Open(coordinator.address());
  EXPECT_EQ(link->CheckpointOrder(), 0);
  for (const int64_t order : {1, 1, 2}) {
    coordinator.Answer(coordinator.NextOf<Heartbeat>(), HeartbeatReply{WorkerCommand::kCheckpoint, order});
    coordinator.Answer(coordinator.NextOf<Heartbeat>(), HeartbeatReply{});  // sent after the order was heard, or one more is
    while (link->CheckpointOrder() != order) coordinator.Answer(coordinator.NextOf<Heartbeat>(), HeartbeatReply{});
  }
  EXPECT_FALSE(stop_.raised());
}

TEST_F(Link, ARefusalReachesTheOwner) {
  FakeCoordinator coordinator;
  const auto link = Open(coordinator.address());
  coordinator.Answer(coordinator.Next(), Refused{"attempt 4 is the current one"});
  auto reason = refused_.get_future();
  ASSERT_EQ(reason.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  EXPECT_EQ(reason.get(), "attempt 4 is the current one");
}

TEST_F(Link, FinishIsTheLastThingSaidAfterEveryReportIsAcknowledged) {
  FakeCoordinator coordinator;
  const auto link = Open(coordinator.address());
  link->Report(CheckpointReport{.step = 10, .path = "attempt-3/step-000000010"});
  auto finished = std::async(std::launch::async, [&] { return link->Finish({.step = 10, .reason = "MAX_STEPS"}, 20'000); });
  coordinator.NextOf<CheckpointReport>();
  auto checkpoint = coordinator.Next();  // repeated, for nobody has answered it
  while (!std::holds_alternative<CheckpointReport>(checkpoint.message)) {
    EXPECT_FALSE(std::holds_alternative<Finished>(checkpoint.message)) << "the checkpoint is not published yet";
    checkpoint = coordinator.Next();
  }
  coordinator.Answer(checkpoint, Published{10});
  coordinator.Answer(coordinator.NextOf<Finished>(), Published{10});
  EXPECT_TRUE(finished.get());
}

TEST_F(Link, FinishGivesUpAfterItsBound) {
  FakeCoordinator coordinator;
  const auto link = Open(coordinator.address());
  const Status finished = link->Finish({.step = 1, .reason = "PLATEAU"}, 200);
  ASSERT_FALSE(finished);
  EXPECT_THAT(finished.error().message, ::testing::HasSubstr("did not acknowledge"));
}

TEST_F(Link, AQuestionOutlivesACoordinatorThatIsRestarted) {
  auto coordinator = std::make_unique<FakeCoordinator>();
  const std::string address = coordinator->address();
  const auto link = Open(address);
  auto answer = std::async(std::launch::async, [&] { return link->Ask({.number = 2}); });
  const auto before = coordinator->NextOf<ValidationReport>();
  coordinator.reset();
  coordinator = std::make_unique<FakeCoordinator>(address);
  const auto after = coordinator->NextOf<ValidationReport>();
  EXPECT_EQ(after.sender.request, before.sender.request);
  coordinator->Answer(after, DecisionReply{{.validation = 2, .lr = 0.5}});
  const auto decision = answer.get();
  ASSERT_TRUE(decision);
  EXPECT_EQ(decision->lr, 0.5);
}

TEST_F(Link, FailedLeavesBeforeTheLinkIsClosed) {
  FakeCoordinator coordinator;
  auto link = Open(coordinator.address());
  coordinator.NextOf<Heartbeat>();
  link->Fail({.reason = "NAN_LOSS", .message = "m", .step = 5, .layer = "conv3_1", .retry = false});
  link.reset();
  const auto failed = std::get<Failed>(coordinator.NextOf<Failed>().message);
  EXPECT_EQ(failed.layer, "conv3_1");
  EXPECT_FALSE(failed.retry);
}

TEST_F(Link, ABadAddressIsRefusedWithTheRightForm) {
  const auto link = CoordinatorLink::Open({.address = "nonsense"}, pulse_, stop_, [](const std::string&) {});
  ASSERT_FALSE(link);
  EXPECT_THAT(link.error().message, ::testing::HasSubstr("tcp://HOST:PORT"));
}

}  // namespace
}  // namespace plateau
