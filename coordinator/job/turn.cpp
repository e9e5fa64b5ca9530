// What every turn of the state machine needs: recording, acting, knowing the current attempt.
#include "coordinator/job/turn.h"

#include <algorithm>

namespace plateau {

void Turn::Record(std::string type, std::string message, Fields fields) {
  EventRow row;
  row.seq = ++job().last_event;
  row.time_ms = now_.unix_ms;
  row.type = std::move(type);
  row.attempt = job().attempts.empty() ? 0 : job().attempts.back().number;
  row.message = std::move(message);
  row.fields = std::move(fields);
  out_.events.push_back(std::move(row));
  out_.durable = true;
}

bool Turn::IsCurrent(int attempt) const {
  const Attempt* current = out_.job.Current();
  return current != nullptr && current->number == attempt && current->state != "ENDED" && HasProcesses(out_.job.state);
}

void Turn::Do(JobAction action) { out_.actions.push_back(std::move(action)); }

bool SameSecret(const std::string& a, const std::string& b) {
  if (a.size() != b.size() || a.empty()) return false;
  unsigned char difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

}  // namespace plateau
