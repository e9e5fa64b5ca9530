// A pipeline's report: the paper's tables with measured beside published figures, and verdicts on its claims. Values and pure functions.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/report/claims.h"
#include "coordinator/report/published.h"

namespace plateau {

struct CurvePoint {
  double epoch = 0, value = 0;
};

// A training job of the pipeline.
struct TrainedModel {
  std::string job, network, state;
  double epochs = 0;
  int decays = 0;
  double seconds = 0;       // of all its attempts
  double images_per_s = 0;  // median over the run; 0: unknown
  int workers = 1;
  bool baseline = false;    // trained by one worker for a moment, to compare speeds with
  std::optional<double> best_error;  // share
  std::vector<CurvePoint> loss;   // of training
  std::vector<CurvePoint> error;  // validation top-1, shares
};

// An evaluation, or a fusion of some.
struct TestResult {
  std::string name;   // of the job or the fusion
  std::string model;  // the job that trained what was tested; empty for a fusion
  int64_t images = 0, correct1 = 0, correct5 = 0;  // images 0: not there yet
  double seconds = 0;  // of testing; a fusion takes none
  std::string missing;  // why it is not there
  std::vector<std::pair<int, std::vector<std::string>>> rows;  // table and key of each row that it fills
};

struct ReportInput {
  std::string pipeline, state;
  double scale_factor = 1;
  std::vector<TrainedModel> models;
  std::vector<TestResult> tests;
  std::map<std::string, Correctness> correctness;  // by a test's name, where its posteriors could be read
};

// One row: published and measured errors in per cent.
struct ReportRow {
  PublishedRow published;
  bool is_published = true;  // false: a row of this pipeline that the paper does not have
  std::optional<double> top1, top5;
  int64_t images = 0;
  const TrainedModel* model = nullptr;  // in ReportInput; null: several, or none
  std::optional<double> speed_up;       // over one worker
  std::optional<double> test_s;
  std::string note;  // why there is no figure
};

struct ReportTable {
  int number = 0;
  std::string title;
  std::vector<std::string> key_columns;
  std::vector<ReportRow> rows;
};

// Borrows the models of `input`.
struct Report {
  const ReportInput* input = nullptr;
  std::vector<ReportTable> tables;  // 3 to 7
  std::vector<ClaimVerdict> claims;
};

Report MakeReport(const ReportInput& input);
// images/s of a model over that of the baseline of the same network; nothing without one.
std::optional<double> SpeedUp(const ReportInput& input, const TrainedModel& model);

}  // namespace plateau
