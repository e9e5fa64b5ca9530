// A ZeroMQ ROUTER in a thread of its own with a bounded queue of what is to be sent: what both of the coordinator's ZeroMQ doors
// stand on.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/error.h"

namespace plateau {

struct RouterOptions {
  std::string address;                // HOST:PORT or tcp://HOST:PORT; port 0: any free one
  std::string name;                   // "link": for messages, and the option --<name> that sets the address
  size_t max_waiting = 65'536;        // messages to be sent; beyond it the oldest are dropped
  int max_waiting_per_peer = 1'000;   // handed to ZeroMQ for a peer that reads slowly
  size_t max_held_bytes = 0;          // of all that comes beyond it, held until the peers read; more is dropped
  int64_t max_frame_bytes = 1 << 20;  // a peer that sends a longer one is disconnected
};

inline constexpr size_t kMaxFrames = 3;  // kept of a message; of a longer one kMaxFrames + 1 empty frames are given

class RouterSocket {
 public:
  using Sink = std::function<void(std::string identity, std::vector<std::string> frames)>;
  // Binds; `sink` is called from the socket's thread once Run is called. kConflict: the address is in use. kInvalidInput: it is no
  // HOST:PORT.
  static Result<std::unique_ptr<RouterSocket>> Bind(const RouterOptions& options, Sink sink);
  ~RouterSocket();  // stops the thread; what is unsent is dropped

  const std::string& endpoint() const;  // "tcp://127.0.0.1:7081"
  void Run();
  // Thread-safe, never blocks. What is for a peer that is gone is dropped.
  void Send(std::string identity, std::vector<std::string> frames);

 private:
  class Impl;
  explicit RouterSocket(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace plateau
