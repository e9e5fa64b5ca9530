// Lets all ranks go on or leave together.
#include "worker/train/agreement.h"

#include <vector>

namespace plateau {

Status Agree(Collective& collective, const Status& local) {
  std::vector<int64_t> codes(static_cast<size_t>(collective.world_size()));
  if (!local) codes[static_cast<size_t>(collective.rank())] = static_cast<int64_t>(local.error().code) + 1;
  collective.AllReduceSum(std::span<int64_t>(codes));
  for (size_t rank = 0; rank < codes.size(); ++rank) {
    if (codes[rank] == 0) continue;
    const std::string message = collective.BroadcastText(local ? "" : local.error().message, static_cast<int>(rank));
    const std::string where = collective.world_size() > 1 && rank > 0 ? fmt::format("rank {}: ", rank) : "";
    return Fail(static_cast<ErrorCode>(codes[rank] - 1), "{}{}", where, message);
  }
  return {};
}

Result<std::string> ShareText(Collective& collective, const Result<std::string>& on_rank_zero) {
  Status status;
  if (!on_rank_zero) status = Fail(on_rank_zero.error());
  PLATEAU_TRY(Agree(collective, status));
  return collective.BroadcastText(collective.rank() == 0 ? *on_rank_zero : "", 0);
}

}  // namespace plateau
