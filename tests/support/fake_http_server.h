// An HTTP server of one thread that answers as a test says, and remembers what it was asked.
#pragma once

#include <arpa/inet.h>
#include <functional>
#include <map>
#include <mutex>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

namespace plateau {

struct FakeRequest {
  std::string method, target, body;
  std::map<std::string, std::string> headers;  // names as sent
};

struct FakeAnswer {
  int status = 200;
  std::string body = "{}";
  std::string extra_headers;  // each line ended by \r\n
};

// Serves one connection at a time on 127.0.0.1 until it is destroyed.
class FakeHttpServer {
 public:
  using Handler = std::function<FakeAnswer(const FakeRequest&)>;

  explicit FakeHttpServer(Handler handler) : handler_(std::move(handler)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(::listen(listener_, 16), 0);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(address.sin_port);
    thread_ = std::jthread([this] { Serve(); });
  }

  ~FakeHttpServer() {
    ::shutdown(listener_, SHUT_RDWR);  // ends accept
    thread_.join();
    ::close(listener_);
  }

  std::string Url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  std::vector<FakeRequest> Requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void Serve() {
    while (true) {
      const int client = ::accept(listener_, nullptr, nullptr);
      if (client < 0) return;
      Answer(client);
      ::close(client);
    }
  }

  void Answer(int client) {
    const FakeRequest request = Read(client);
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    const FakeAnswer answer = handler_(request);
    const std::string text = "HTTP/1.1 " + std::to_string(answer.status) +
                             " X\r\nContent-Length: " + std::to_string(answer.body.size()) + "\r\n" + answer.extra_headers +
                             "Connection: close\r\n\r\n" + answer.body;
    for (size_t sent = 0; sent < text.size();) {
      const ssize_t n = ::send(client, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += static_cast<size_t>(n);
    }
  }

  static FakeRequest Read(int client) {
    std::string text;
    size_t head = std::string::npos, length = 0;
    char buffer[65536];
    while (head == std::string::npos || text.size() < head + 4 + length) {
      const ssize_t n = ::recv(client, buffer, sizeof(buffer), 0);
      if (n <= 0) break;
      text.append(buffer, static_cast<size_t>(n));
      if (head == std::string::npos) head = text.find("\r\n\r\n");
      if (const size_t at = text.find("Content-Length: "); at != std::string::npos && at < head)
        length = std::stoul(text.substr(at + 16));
    }
    FakeRequest request;
    request.method = text.substr(0, text.find(' '));
    const size_t target = request.method.size() + 1;
    request.target = text.substr(target, text.find(' ', target) - target);
    for (size_t at = text.find("\r\n") + 2; at < head;) {
      const size_t end = text.find("\r\n", at), colon = text.find(": ", at);
      request.headers[text.substr(at, colon - at)] = text.substr(colon + 2, end - colon - 2);
      at = end + 2;
    }
    request.body = head == std::string::npos ? "" : text.substr(head + 4);
    return request;
  }

  Handler handler_;
  int listener_ = -1;
  int port_ = 0;
  mutable std::mutex mutex_;
  std::vector<FakeRequest> requests_;
  std::jthread thread_;
};

}  // namespace plateau
