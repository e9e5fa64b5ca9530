// Waiting requests by number; each is answered once, by an event or by its timer.
#include "coordinator/http/event_pages.h"

#include <charconv>

#include <fmt/format.h>

#include "coordinator/http/api.h"
#include "coordinator/job/job_view.h"

namespace plateau {

std::optional<int64_t> QueryNumber(const ApiRequest& request, const char* name, int64_t absent, int64_t low, int64_t high) {
  const auto found = request.query.find(name);
  if (found == request.query.end()) return absent;
  int64_t value = 0;
  const auto& text = found->second;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < low || value > high) return std::nullopt;
  return value;
}

void EventPages::Answer(const ApiRequest& request, const std::string& id, ApiRespond respond) {
  const auto after = QueryNumber(request, "after", 0, 0, INT64_MAX - 1);
  const auto wait_s = QueryNumber(request, "wait", 0, 0, kMaxWaitSeconds);
  if (!after) return respond(Problem(400, "query: after must be a whole number from 0 on", request.target));
  if (!wait_s)
    return respond(
        Problem(400, fmt::format("query: wait must be a whole number of seconds from 0 to {}", kMaxWaitSeconds), request.target));
  if (newest_(id) > *after || *wait_s == 0) return respond(Page(id, *after, request.target));
  if (waiters_.size() >= kMaxLongPolls)
    return respond(Problem(503, "too many long polls are waiting; ask again without wait", request.target));
  const uint64_t number = ++last_waiter_;
  waiters_[number] = Waiter{id, *after, std::move(respond), request.target};
  io_->After(*wait_s * 1000, [weak = weak_from_this(), number] {
    if (auto self = weak.lock()) self->Finish(number);
  });
  if (newest_(id) > *after) Finish(number);  // an event may have come between the look and the registration
}

ApiResponse EventPages::Page(const std::string& id, int64_t after, const std::string& target) const {
  auto events = read_(id, after, kMaxEventsPerAnswer);
  if (!events) return Problem(500, events.error().message, target);
  ApiResponse response;
  response.body = EventsText(*events, after + static_cast<int64_t>(events->size()));
  return response;
}

void EventPages::Finish(uint64_t number) {
  auto node = waiters_.extract(number);
  if (node.empty()) return;
  const Waiter& waiter = node.mapped();
  waiter.respond(Page(waiter.id, waiter.after, waiter.target));
}

void EventPages::Wake(const std::string& id) {
  const int64_t newest = newest_(id);
  std::vector<uint64_t> ready;
  for (const auto& [number, waiter] : waiters_)
    if (waiter.id == id && newest > waiter.after) ready.push_back(number);
  for (const uint64_t number : ready) Finish(number);
}

}  // namespace plateau
