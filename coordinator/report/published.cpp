// Tables 3 to 7 of the paper as code; tests/reference/vgg_facts.json is what they are compared with.
#include "coordinator/report/published.h"

namespace plateau {
namespace {

constexpr std::nullopt_t kNone = std::nullopt;

std::vector<PublishedRow> Table3() {
  return {
      {{"A", "256", "256"}, 29.6, 10.4},
      {{"A-LRN", "256", "256"}, 29.7, 10.5},
      {{"B", "256", "256"}, 28.7, 9.9},
      {{"C", "256", "256"}, 28.1, 9.4},
      {{"C", "384", "384"}, 28.1, 9.3},
      {{"C", "[256;512]", "384"}, 27.3, 8.8},
      {{"D", "256", "256"}, 27.0, 8.8},
      {{"D", "384", "384"}, 26.8, 8.7},
      {{"D", "[256;512]", "384"}, 25.6, 8.1},
      {{"E", "256", "256"}, 27.3, 9.0},
      {{"E", "384", "384"}, 26.9, 8.7},
      {{"E", "[256;512]", "384"}, 25.5, 8.0},
  };
}

std::vector<PublishedRow> Table4() {
  return {
      {{"B", "256", "224,256,288"}, 28.2, 9.6},
      {{"C", "256", "224,256,288"}, 27.7, 9.2},
      {{"C", "384", "352,384,416"}, 27.8, 9.2},
      {{"C", "[256;512]", "256,384,512"}, 26.3, 8.2},
      {{"D", "256", "224,256,288"}, 26.6, 8.6},
      {{"D", "384", "352,384,416"}, 26.5, 8.6},
      {{"D", "[256;512]", "256,384,512"}, 24.8, 7.5},
      {{"E", "256", "224,256,288"}, 26.9, 8.7},
      {{"E", "384", "352,384,416"}, 26.7, 8.6},
      {{"E", "[256;512]", "256,384,512"}, 24.8, 7.5},
  };
}

std::vector<PublishedRow> Table5() {
  return {
      {{"D", "dense"}, 24.8, 7.5},
      {{"D", "multi-crop"}, 24.6, 7.5},
      {{"D", "multi-crop & dense"}, 24.4, 7.2},
      {{"E", "dense"}, 24.8, 7.5},
      {{"E", "multi-crop"}, 24.6, 7.4},
      {{"E", "multi-crop & dense"}, 24.4, 7.1},
  };
}

std::vector<PublishedRow> Table6() {
  return {
      {{"ILSVRC submission, 7 nets"}, 24.7, 7.5, 7.3},
      {{"D+E multi-scale, dense"}, 24.0, 7.1, 7.0},
      {{"D+E, multi-crop"}, 23.9, 7.2, kNone},
      {{"D+E, multi-crop & dense"}, 23.7, 6.8, 6.8},
  };
}

std::vector<PublishedRow> Table7() {
  return {
      {{"VGG (2 nets, multi-crop & dense)"}, 23.7, 6.8, 6.8},
      {{"VGG (1 net, multi-crop & dense)"}, 24.4, 7.1, 7.0},
      {{"VGG (ILSVRC submission, 7 nets, dense)"}, 24.7, 7.5, 7.3},
      {{"GoogLeNet (1 net)"}, kNone, 7.9, kNone, true},
      {{"GoogLeNet (7 nets)"}, kNone, 6.7, kNone, true},
      {{"MSRA (11 nets)"}, kNone, kNone, 8.1},
      {{"MSRA (1 net)"}, 27.9, 9.1, 9.1},
      {{"Clarifai (multiple)"}, kNone, kNone, 11.7},
      {{"Clarifai (1 net)"}, kNone, kNone, 12.5},
      {{"Zeiler&Fergus (6 nets)"}, 36.0, 14.7, 14.8},
      {{"Zeiler&Fergus (1 net)"}, 37.5, 16.0, 16.1},
      {{"OverFeat (7 nets)"}, 34.0, 13.2, 13.6},
      {{"OverFeat (1 net)"}, 35.7, 14.2, kNone},
      {{"Krizhevsky (5 nets)"}, 38.1, 16.4, 16.4},
      {{"Krizhevsky (1 net)"}, 40.7, 18.2, kNone},
  };
}

}  // namespace

const std::vector<PublishedTable>& PublishedTables() {
  static const std::vector<PublishedTable> kTables{
      {3, "Single test scale, dense", {"NET", "TRAIN S", "TEST Q"}, Table3()},
      {4, "Multiple test scales, dense", {"NET", "TRAIN S", "TEST Q"}, Table4()},
      {5, "Dense and multi-crop testing of the jittered nets", {"NET", "TESTING"}, Table5()},
      {6, "Fusion of several nets", {"NETS"}, Table6()},
      {7, "Comparison with others", {"METHOD"}, Table7()},
  };
  return kTables;
}

}  // namespace plateau
