// The routes of ingests: /v1/datasets and what is below. coordinator/API.md is its page.
#pragma once

#include <memory>
#include <variant>

#include "coordinator/http/api_message.h"
#include "coordinator/http/event_pages.h"
#include "coordinator/ingest/dataset_service.h"

namespace plateau {

// 400 syntax, 415 content type, 422 a field.
std::variant<DatasetSubmission, ApiResponse> ReadDatasetSubmission(const ApiRequest& request);

// The io thread's own.
class DatasetApi : public std::enable_shared_from_this<DatasetApi> {
 public:
  explicit DatasetApi(DatasetService& service);
  // Before the first Handle.
  void Attach(IoThread& io);
  // `request.path` begins "v1", "datasets".
  void Handle(const ApiRequest& request, ApiRespond respond);

 private:
  void Collection(const ApiRequest& request, ApiRespond respond);
  void Cancel(const ApiRequest& request, ApiRespond respond);

  DatasetService& service_;
  std::shared_ptr<EventPages> events_;
};

}  // namespace plateau
