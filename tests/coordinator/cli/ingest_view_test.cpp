// How the command line draws an ingest: progress, leases, workers, its end.
#include "coordinator/cli/ingest_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

Json Running() {
  return Json::parse(
      R"({"id":"set-1","name":"set","state":"RUNNING","reason":"RUNNING","message":"shards are being built","out":"/data/set",
    "images":10000,"handled":4200,"rejected":3,"converted":1,"shards":18,"committed":7,"reused":0,"images_per_s":812.4,"eta_s":7.1,
    "seconds":5.2,"splits":{"train":{"sources":9000,"shards":16,"committed":6,"records":3997,"rejected":3,"checksum":null}},
    "leases":[{"lease":12,"shard":"train/00004","state":"building","worker":"n1-7-ab/0","host":"n1","pid":7,"slot":1,"images":310,"of":625,
    "rejected":0,"heard_age_s":0.4,"expires_in_s":19.6}],
    "workers":[{"slot":1,"attempt":1,"alive":true,"restarts":0,"last_exit":null},
    {"slot":2,"attempt":2,"alive":false,"restarts":1,"last_exit":"killed by signal 9"}]})");
}

TEST(IngestView, ShowsProgressRateRemainingTimeAndRejects) {
  const std::string line = RenderIngestProgress(Style{}, ReadIngestView(Running()), 120);
  for (const char* part : {"42% [", "4,200/10,000 images", "812 images/s", "ETA 7.1s", "shards 7/18", "3 rejected"})
    EXPECT_THAT(line, HasSubstr(part));
  Json json = Running();
  json["images_per_s"] = json["eta_s"] = nullptr;
  EXPECT_THAT(RenderIngestProgress(Style{}, ReadIngestView(json), 120), Not(HasSubstr("ETA")));
}

TEST(IngestView, ShowsLeasesAndWorkersWithinTheTerminal) {
  Style style;
  style.columns = 60;
  const auto lines = RenderIngestLive(style, ReadIngestView(Running()));
  EXPECT_THAT(lines, ElementsAre(HasSubstr("set-1"), HasSubstr("42%"), HasSubstr("worker 1  runs"),
                                 HasSubstr("restarted 1 times; last: killed"), HasSubstr("lease 12    train/00004     310/625")));
  for (const auto& line : lines) EXPECT_LE(VisibleWidth(line), 60u) << line;
}

TEST(IngestView, TheEndHasTheChecksumsAndTheExitCode) {
  Json json = Running();
  json["state"] = "COMPLETED";
  json["splits"]["train"]["checksum"] = "52811c1154200f88";
  EXPECT_EQ(ReadIngestView(json).ExitCode(), 0);
  const std::string end = RenderIngestEnd(Style{}, ReadIngestView(json));
  EXPECT_THAT(end, HasSubstr("checksum 52811c1154200f88"));
  EXPECT_THAT(end, HasSubstr("/data/set/rejected.jsonl"));
  json["state"] = "FAILED";
  json["reason"] = "TOO_MANY_REJECTED";
  EXPECT_EQ(ReadIngestView(json).ExitCode(), 2);
  json["reason"] = "WORKERS_LOST";
  EXPECT_EQ(ReadIngestView(json).ExitCode(), 1);
  EXPECT_THAT(RenderIngests(Style{}, {ReadIngestView(json)}), HasSubstr("4200/10000"));
  EXPECT_THAT(RenderIngests(Style{}, {}), HasSubstr("plateau dataset ingest --coordinator"));
}

}  // namespace
}  // namespace plateau
