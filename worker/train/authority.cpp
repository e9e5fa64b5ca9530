// Who decides the learning rate and publishes checkpoints.
#include "worker/train/authority.h"

#include <filesystem>

#include "common/log.h"
#include "worker/train/rank_link.h"
#include "worker/train/run_folder.h"

namespace plateau {
namespace {

// "attempt-3/step-000000123" for an absolute checkpoint folder.
std::string RelativePath(const WrittenCheckpoint& written, const CheckpointState& state) {
  return fmt::format("attempt-{}/{}", state.identity.attempt, std::filesystem::path(written.folder).filename().string());
}

class LocalAuthority final : public Authority {
 public:
  LocalAuthority(FileSystem& files, std::string run_folder, const LrPolicy& policy, const RetentionOptions& retention)
      : files_(files), run_folder_(std::move(run_folder)), policy_(policy), retention_(retention) {}

  Result<LrOutcome> Decide(const ValidationReport&, double value, const LrState& before) override {
    return DecideLr(policy_, before, value);
  }
  int64_t CheckpointOrder() const override { return 0; }
  Status Publish(const WrittenCheckpoint& written, const CheckpointState& state, bool, int64_t) override {
    PLATEAU_TRY(PublishCheckpoint(files_, run_folder_,
                                  {.path = RelativePath(written, state),
                                   .step = state.train.step,
                                   .checksum = written.manifest_checksum,
                                   .lineage = state.identity.lineage}));
    const Status deleted =
        DeleteOldCheckpoints(files_, run_folder_, state.identity.lineage, retention_.keep_last, retention_.keep_best);
    if (!deleted) LogWarning("old checkpoints were not all deleted: {}", deleted.error().message);
    return {};
  }
  void Report(const Metrics&) override {}
  Status Finish(const Finished&) override { return {}; }

 private:
  FileSystem& files_;
  std::string run_folder_;
  LrPolicy policy_;
  RetentionOptions retention_;
};

class LinkAuthority final : public Authority {
 public:
  LinkAuthority(CoordinatorLink& link, const LrPolicy& policy) : link_(link), policy_(policy) {}

  Result<LrOutcome> Decide(const ValidationReport& report, double value, const LrState& before) override {
    LrOutcome outcome = DecideLr(policy_, before, value);
    PLATEAU_ASSIGN(const LrDecision decision, link_.Ask(report));
    if (decision.lr != outcome.decision.lr || decision.action != outcome.decision.action)
      LogInfo("validation {}: the coordinator decides {} with lr {}; the policy alone would {} with lr {}", report.number,
              LrActionName(decision.action), decision.lr, LrActionName(outcome.decision.action), outcome.decision.lr);
    outcome.decision = decision;
    outcome.state.lr = decision.lr;
    outcome.state.stopped = decision.action == LrAction::kStop;
    return outcome;
  }
  int64_t CheckpointOrder() const override { return link_.CheckpointOrder(); }
  Status Publish(const WrittenCheckpoint& written, const CheckpointState& state, bool final, int64_t order) override {
    CheckpointReport report{.step = state.train.step,
                            .path = RelativePath(written, state),
                            .bytes = written.bytes,
                            .final = final,
                            .order = order,
                            .lineage = state.identity.lineage};
    if (!state.train.history.empty()) {
      report.validation = state.train.history.back().report.number;
      report.metric = state.train.history.back().value;
    }
    link_.Report(report);
    return {};
  }
  void Report(const Metrics& metrics) override { link_.Send(metrics); }
  Status Finish(const Finished& finished) override { return link_.Finish(finished, kFarewellMs); }

 private:
  CoordinatorLink& link_;
  LrPolicy policy_;
};

}  // namespace

std::unique_ptr<Authority> MakeLocalAuthority(FileSystem& files, std::string run_folder, const LrPolicy& policy,
                                              const RetentionOptions& retention) {
  return std::make_unique<LocalAuthority>(files, std::move(run_folder), policy, retention);
}

std::unique_ptr<Authority> MakeLinkAuthority(CoordinatorLink& link, const LrPolicy& policy) {
  return std::make_unique<LinkAuthority>(link, policy);
}

}  // namespace plateau
