// An HTTP client that sends exactly the bytes a test wants and keeps its connection.
#pragma once

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace plateau::test {

struct RawAnswer {
  int status = 0;    // 0: the connection ended before an answer
  std::string head;  // status line and headers
  std::string body;
  bool Has(const std::string& header_line) const { return head.find(header_line) != std::string::npos; }
};

// One connection to http://127.0.0.1:PORT. Reading waits at most 20 s.
class RawHttp {
 public:
  explicit RawHttp(const std::string& endpoint) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const timeval limit{20, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1))));
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0) << std::strerror(errno);
  }
  ~RawHttp() { ::close(fd_); }
  RawHttp(const RawHttp&) = delete;
  RawHttp& operator=(const RawHttp&) = delete;

  void Send(const std::string& bytes) {
    for (size_t sent = 0; sent < bytes.size();) {
      const ssize_t n = ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += static_cast<size_t>(n);
    }
  }

  RawAnswer Receive(bool head_only = false) {
    size_t end = std::string::npos;
    while ((end = buffer_.find("\r\n\r\n")) == std::string::npos)
      if (!Fill()) return {};
    RawAnswer answer;
    answer.head = buffer_.substr(0, end + 2);
    answer.status = std::stoi(answer.head.substr(answer.head.find(' ') + 1));
    buffer_.erase(0, end + 4);
    size_t length = 0;
    if (const auto at = answer.head.find("Content-Length: "); at != std::string::npos && !head_only)
      length = std::stoul(answer.head.substr(at + 16));
    while (buffer_.size() < length)
      if (!Fill()) break;
    answer.body = buffer_.substr(0, length);
    buffer_.erase(0, length);
    return answer;
  }

  RawAnswer Ask(const std::string& method, const std::string& target, const std::string& headers = {},
                const std::string& body = {}) {
    Send(method + " " + target + " HTTP/1.1\r\nHost: test\r\n" + headers +
         (body.empty() ? std::string() : "Content-Length: " + std::to_string(body.size()) + "\r\n") + "\r\n" + body);
    return Receive(method == "HEAD");
  }

  // True when the peer has closed the connection.
  bool IsClosed() { return !Fill(); }

 private:
  bool Fill() {
    char bytes[65536];
    ssize_t n = 0;
    do n = ::recv(fd_, bytes, sizeof bytes, 0);
    while (n < 0 && errno == EINTR);  // a child of the test has ended
    if (n <= 0) return false;
    buffer_.append(bytes, static_cast<size_t>(n));
    return true;
  }

  int fd_ = -1;
  std::string buffer_;
};

}  // namespace plateau::test
