// A table of choices, its exceptions, and what gives way to what.
#include "worker/nn/recorded_choices.h"

namespace plateau {
namespace {

std::string ExceptionKey(const std::string& key, const std::string& plan) { return key + ", " + plan; }

}  // namespace

std::string RecordedChoices::Choose(const std::string& key, const std::function<std::string()>& time) {
  if (!all_.contains(key)) {
    if (adopted_)
      throw Failure(
          ErrorCode::kInternal,
          fmt::format("rank 0 has chosen no algorithm for \"{}\": ranks must have devices and libraries of the same kind", key));
    Keep(key, "", time);
  }
  ++users_[key];
  return all_.at(key);
}

std::optional<std::string> RecordedChoices::Exception(const std::string& key, const std::string& plan) {
  const std::string exception = ExceptionKey(key, plan);
  if (const auto known = all_.find(exception); known != all_.end()) return known->second;
  // Exceptions in the machine's file were made beside that file's choice: they say nothing about a checkpoint's.
  const bool recorded = all_.contains(key) && !own_.contains(key);
  const auto cached = cached_.find(exception);
  if (adopted_ || recorded || cached == cached_.end()) return std::nullopt;
  own_.insert(exception);
  return all_[exception] = cached->second;
}

std::string RecordedChoices::Replace(const RefusedChoice& refused, const std::function<std::string()>& time) {
  if (adopted_)
    throw Failure(
        ErrorCode::kUnsupported,
        fmt::format("\"{}\": rank 0's algorithm, \"{}\", cannot be built here ({}): {}; ranks must have devices and libraries "
                    "of the same kind, which mpirun ... plateau-worker doctor lists",
                    refused.key, refused.text, refused.plan, refused.why.message));
  const std::string exception = ExceptionKey(refused.key, refused.plan);
  if (all_.contains(exception)) return Keep(exception, refused.text, time);
  int& users = users_[refused.key];
  const bool stale = users < 2 && refused.why.code != ErrorCode::kUnavailable;
  if (stale) return Keep(refused.key, refused.text, time);
  --users;  // this plan leaves it to the others
  return Keep(exception, refused.text, time);
}

// The file's choice unless it is the one that was refused, else the clock's.
std::string RecordedChoices::Keep(const std::string& key, const std::string& refused, const std::function<std::string()>& time) {
  const auto cached = cached_.find(key);
  const bool known = cached != cached_.end() && cached->second != refused;
  const std::string choice = known ? cached->second : time();
  if (!known) timed_[key] = choice;
  own_.insert(key);
  return all_[key] = choice;
}

void RecordedChoices::Adopt(ChoiceTable of_rank_zero) {
  all_ = std::move(of_rank_zero);
  adopted_ = true;
}

}  // namespace plateau
