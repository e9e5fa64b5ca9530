// Rank 0 compiles, hands its choices on, and the others follow.
#include "worker/train/compile_alike.h"

#include "worker/train/agreement.h"
#include "worker/train/choices_files.h"

namespace plateau {

Status CompileAlike(FileSystem& files, RecordedChoices* choices, Collective& collective, const std::function<Status()>& compile) {
  if (choices == nullptr) return Agree(collective, compile());
  const bool zero = collective.rank() == 0;
  const Status chosen = zero ? compile() : Status();
  if (zero) KeepTimedChoices(files, *choices);  // also of a start that was ended: the next one goes on from there
  PLATEAU_TRY(Agree(collective, chosen));
  const std::string table = collective.BroadcastText(zero ? EncodeChoices(choices->all()) : "", 0);
  if (zero) return Agree(collective, {});
  const Status compiled = [&]() -> Status {
    PLATEAU_ASSIGN(ChoiceTable adopted, DecodeChoices(table, "rank 0's algorithms"));
    choices->Adopt(std::move(adopted));
    return compile();
  }();
  return Agree(collective, compiled);
}

}  // namespace plateau
