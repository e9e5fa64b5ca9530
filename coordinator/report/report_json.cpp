// A report for programs.
#include <nlohmann/json.hpp>

#include "coordinator/report/render.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

Json Maybe(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }

Json Minus(const std::optional<double>& a, const std::optional<double>& b) { return a && b ? Json(*a - *b) : Json(nullptr); }

Json RowJson(const ReportRow& row) {
  const PublishedRow& p = row.published;
  Json out{{"key", p.key},
           {"measured", {{"top1_error", Maybe(row.top1)}, {"top5_error", Maybe(row.top5)}, {"images", row.images}}},
           {"published", row.is_published ? Json{{"top1_error", Maybe(p.top1)},
                                                 {"top5_error", Maybe(p.top5)},
                                                 {"test_top5_error", Maybe(p.test_top5)},
                                                 {"top5_of_val_and_test", p.merged}}
                                          : Json(nullptr)},
           {"difference", {{"top1_error", Minus(row.top1, p.top1)}, {"top5_error", Minus(row.top5, p.top5)}}},
           {"test_s", Maybe(row.test_s)}};
  if (row.model != nullptr)
    out.update({{"job", row.model->job},
                {"epochs", row.model->epochs},
                {"decays", row.model->decays},
                {"train_s", row.model->seconds},
                {"workers", row.model->workers},
                {"speed_up", Maybe(row.speed_up)}});
  if (!row.note.empty()) out["note"] = row.note;
  return out;
}

Json DifferenceJson(const PairedDifference& d) {
  return {{"points", d.points}, {"low", d.low}, {"high", d.high}, {"images", d.images}};
}

Json PartJson(const ClaimPart& part) {
  Json comparisons = Json::array();
  for (const auto& one : part.comparisons)
    comparisons.push_back({{"first", one.first},
                           {"second", one.second},
                           {"improvement", DifferenceJson(one.difference)},
                           {"only_first_right", one.only_first},
                           {"only_second_right", one.only_second}});
  return {{"part", part.label},
          {"verdict", VerdictName(part.verdict)},
          {"improvement", part.together ? DifferenceJson(*part.together) : Json(nullptr)},
          {"comparisons", comparisons}};
}

Json ClaimJson(const ClaimVerdict& claim) {
  Json parts = Json::array();
  for (const auto& part : claim.parts) parts.push_back(PartJson(part));
  return {{"claim", claim.claim}, {"verdict", VerdictName(claim.verdict)}, {"rule", claim.rule}, {"parts", parts}, {"missing", claim.missing}};
}

}  // namespace

std::string ReportJson(const Report& report) {
  const ReportInput& input = *report.input;
  Json tables = Json::array(), training = Json::array(), claims = Json::array();
  for (const auto& table : report.tables) {
    Json rows = Json::array();
    for (const auto& row : table.rows) rows.push_back(RowJson(row));
    tables.push_back({{"table", table.number}, {"title", table.title}, {"rows", rows}});
  }
  for (const auto& model : input.models)
    training.push_back({{"job", model.job},
                        {"network", model.network},
                        {"state", model.state},
                        {"best_error", model.best_error ? Json(100 * *model.best_error) : Json(nullptr)},
                        {"epochs", model.epochs},
                        {"decays", model.decays},
                        {"train_s", model.seconds},
                        {"images_per_s", model.images_per_s},
                        {"workers", model.workers},
                        {"baseline", model.baseline},
                        {"speed_up", Maybe(SpeedUp(input, model))}});
  for (const auto& claim : report.claims) claims.push_back(ClaimJson(claim));
  const Json out{{"pipeline", input.pipeline}, {"state", input.state},   {"scale_factor", input.scale_factor},
                 {"tables", tables},           {"training", training}, {"claims", claims}};
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace plateau
