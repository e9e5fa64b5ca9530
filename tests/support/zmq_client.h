// A DEALER in a test's hand: sends frames as they are, reads answers as JSON.
#pragma once

#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <zmq.hpp>

namespace plateau::test {

class RawZmq {
 public:
  explicit RawZmq(const std::string& endpoint, zmq::socket_type type = zmq::socket_type::dealer) : socket_(context_, type) {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::rcvtimeo, 20'000);
    socket_.connect(endpoint);
  }
  void SendFrames(const std::vector<std::string>& frames) {
    for (size_t i = 0; i < frames.size(); ++i)
      socket_.send(zmq::buffer(frames[i]), i + 1 < frames.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
  }
  void Send(const nlohmann::json& request) { SendFrames({request.dump()}); }
  // Null and a failure of the test when none comes.
  nlohmann::json Receive() {
    zmq::message_t text;
    EXPECT_TRUE(socket_.recv(text).has_value()) << "no answer";
    EXPECT_FALSE(text.more());
    return nlohmann::json::parse(text.to_string_view(), nullptr, false);
  }
  nlohmann::json Ask(const nlohmann::json& request) {
    Send(request);
    return Receive();
  }
  zmq::socket_t& socket() { return socket_; }

 private:
  zmq::context_t context_;
  zmq::socket_t socket_;
};

}  // namespace plateau::test
