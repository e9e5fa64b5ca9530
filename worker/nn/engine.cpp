// What engines have in common.
#include <optional>

#include "common/check.h"
#include "worker/nn/scorer.h"
#include "worker/nn/trainer.h"

namespace plateau {
namespace {

// The host drives the plan.
class HostScorer final : public Scorer {
 public:
  explicit HostScorer(Plan& plan) : plan_(plan) {}
  int depth() const override { return 0; }
  void Enqueue(const LaneBatch& rows) override {
    PLATEAU_CHECK(!done_, "{}", "a batch is unsettled");
    plan_.Forward(rows, 0);
    done_ = plan_.Loss(rows, 1);
  }
  LossSums Settle() override {
    PLATEAU_CHECK(done_.has_value(), "{}", "no batch is unsettled");
    const LossSums sums = *done_;
    done_.reset();
    return sums;
  }

 private:
  Plan& plan_;
  std::optional<LossSums> done_;
};

}  // namespace

Result<std::unique_ptr<Trainer>> Engine::CreateTrainer(Plan&, const TrainerOptions&, Collective&) { return std::unique_ptr<Trainer>(); }

Result<std::unique_ptr<Scorer>> Engine::CreateScorer(Plan& evaluation, bool pixels) {
  PLATEAU_CHECK(!pixels, "{}", "bytes for an engine that takes none");
  return std::make_unique<HostScorer>(evaluation);
}

}  // namespace plateau
