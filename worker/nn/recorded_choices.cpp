// A table of choices, its exceptions, and what gives way to what.
#include "worker/nn/recorded_choices.h"

#include <algorithm>

namespace plateau {
namespace {

std::string ExceptionKey(const std::string& key, const std::string& plan) { return key + ", " + plan; }

}  // namespace

std::vector<std::string> RecordedChoices::FileNames(const std::string& key) const {
  if (use_ == Use::kTraining) return {key};
  return {key + ", test", key};
}

std::string RecordedChoices::Choose(const std::string& key, const std::function<std::string()>& time) {
  if (!all_.contains(key)) {
    if (adopted_)
      throw Failure(
          ErrorCode::kInternal,
          fmt::format("rank 0 has chosen no algorithm for \"{}\": ranks must have devices and libraries of the same kind", key));
    Keep(key, FileNames(key), time);
  }
  ++users_[key];
  return all_.at(key);
}

std::optional<std::string> RecordedChoices::Exception(const std::string& key, const std::string& plan) {
  const std::string exception = ExceptionKey(key, plan);
  if (const auto known = all_.find(exception); known != all_.end()) return known->second;
  // Exceptions in the machine's file were made beside that file's choice: they say nothing about a checkpoint's.
  const bool recorded = all_.contains(key) && !own_.contains(key);
  if (adopted_ || recorded) return std::nullopt;
  std::vector<std::string> names = FileNames(exception);
  // Training's exceptions stand beside training's choice: where the file has none, or this test its own, they say nothing.
  const bool not_beside_it = use_ == Use::kTest && (cached_.contains(FileNames(key).front()) || !cached_.contains(key));
  if (not_beside_it) names.pop_back();
  for (const std::string& name : names) {
    const auto cached = cached_.find(name);
    if (cached == cached_.end()) continue;
    own_.insert(exception);
    return all_[exception] = cached->second;
  }
  return std::nullopt;
}

std::string RecordedChoices::Replace(const RefusedChoice& refused, const std::function<std::string()>& time) {
  if (adopted_)
    throw Failure(
        ErrorCode::kUnsupported,
        fmt::format("\"{}\": rank 0's algorithm, \"{}\", cannot be built here ({}): {}; ranks must have devices and libraries "
                    "of the same kind, which mpirun ... plateau-worker doctor lists",
                    refused.key, refused.text, refused.plan, refused.why.message));
  const std::string exception = ExceptionKey(refused.key, refused.plan);
  if (!all_.contains(exception)) {
    int& users = users_[refused.key];
    const bool stale = users < 2 && refused.why.code != ErrorCode::kUnavailable && use_ == Use::kTraining;
    if (stale) {
      refused_.insert({refused.key, refused.text});
      return Keep(refused.key, FileNames(refused.key), time);
    }
    --users;  // this plan leaves it to the others
  }
  refused_.insert({exception, refused.text});
  // Where a checkpoint's choice was refused, the file's may do: what is timed then is an exception to that one too.
  std::vector<std::string> names = FileNames(exception);
  for (std::string& name : FileNames(refused.key)) names.push_back(std::move(name));
  return Keep(exception, names, time);
}

// The first of the file's choices under these names that was not refused, else the clock's, for the file's first name.
std::string RecordedChoices::Keep(const std::string& key, const std::vector<std::string>& file_names,
                                  const std::function<std::string()>& time) {
  std::string choice;
  const auto known = std::ranges::find_if(file_names, [&](const std::string& name) {
    const auto cached = cached_.find(name);
    return cached != cached_.end() && !refused_.contains({key, cached->second});
  });
  if (known != file_names.end())
    choice = cached_.at(*known);
  else
    choice = timed_[file_names.front()] = time();
  own_.insert(key);
  return all_[key] = choice;
}

void RecordedChoices::Adopt(ChoiceTable of_rank_zero) {
  all_ = std::move(of_rank_zero);
  adopted_ = true;
}

}  // namespace plateau
