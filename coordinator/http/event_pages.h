// GET .../events?after=SEQ&wait=SECONDS of jobs and of ingests: pages of events, and long polls that wait for the next one.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/error.h"
#include "coordinator/http/api_message.h"

namespace plateau {

class IoThread;

// A whole number from the query, or `absent`; nothing when it is no number in [low, high].
std::optional<int64_t> QueryNumber(const ApiRequest& request, const char* name, int64_t absent, int64_t low, int64_t high);

// The io thread's own.
class EventPages : public std::enable_shared_from_this<EventPages> {
 public:
  // Sequence number of the newest event of `id`; -1: there is no such thing (any more).
  using Newest = std::function<int64_t(const std::string& id)>;
  // Stored texts with sequence numbers in (after, ...], at most `limit`, oldest first.
  using Read = std::function<Result<std::vector<std::string>>(const std::string& id, int64_t after, size_t limit)>;
  EventPages(Newest newest, Read read) : newest_(std::move(newest)), read_(std::move(read)) {}

  // Before the first Answer.
  void Attach(IoThread& io) { io_ = &io; }
  // Responds now, or when the first event after the one that is named happens, or when the time of the query is over.
  void Answer(const ApiRequest& request, const std::string& id, ApiRespond respond);
  // Something has happened to `id`.
  void Wake(const std::string& id);

 private:
  struct Waiter {
    std::string id;
    int64_t after = 0;
    ApiRespond respond;
    std::string target;
  };
  ApiResponse Page(const std::string& id, int64_t after, const std::string& target) const;
  void Finish(uint64_t number);

  Newest newest_;
  Read read_;
  IoThread* io_ = nullptr;
  std::map<uint64_t, Waiter> waiters_;
  uint64_t last_waiter_ = 0;
};

}  // namespace plateau
