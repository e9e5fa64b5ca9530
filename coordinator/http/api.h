// The REST interface: routes to answers. coordinator/API.md is its page.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "common/file.h"
#include "coordinator/http/api_message.h"
#include "coordinator/job/service.h"
#include "coordinator/web/assets.h"

namespace plateau {

class DatasetService;

// The one thread that the API runs in, given by the server.
class IoThread {
 public:
  virtual ~IoThread() = default;
  virtual void Post(std::function<void()> work) = 0;                     // thread-safe
  virtual void After(int64_t delay_ms, std::function<void()> work) = 0;  // thread-safe
};

inline constexpr int64_t kMaxWaitSeconds = 60;  // of a long poll
inline constexpr size_t kMaxLongPolls = 1'024;  // at once; beyond it 503
inline constexpr size_t kMaxEventsPerAnswer = 1'000;
inline constexpr int64_t kMaxLogBytesPerAnswer = 1 << 20;

// Shared by the routes of jobs and of ingests.
int HttpStatusOf(ErrorCode code);
ApiResponse NoRoute(const ApiRequest& request);
ApiResponse WrongMethod(const ApiRequest& request, const std::string& allowed);

class Api {
 public:
  // `datasets` may be null: then there are no routes of ingests.
  Api(Service& service, DatasetService* datasets, FileSystem& files, std::span<const WebAsset> assets);
  ~Api();
  // Before the first Handle.
  void Attach(IoThread& io);
  // On the io thread. `respond` is called now or later: commands when the control loop has decided, long polls when something
  // happens.
  void Handle(ApiRequest request, ApiRespond respond);

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace plateau
