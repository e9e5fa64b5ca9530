// Fully connected layers by cuBLASLt against the naive loops: every pass, epilogue and algorithm on offer.
#include "worker/backend/cuda/fc_op.h"

#include "tests/worker/backend/cuda/op_fixture.h"
#include "worker/backend/cuda/fc_pass.h"

namespace plateau::cuda {
namespace {

using reference::Map;
using testing::HasSubstr;
using testing::StartsWith;

constexpr FcPassKind kPasses[] = {FcPassKind::kForward, FcPassKind::kBackwardData, FcPassKind::kBackwardWeights};

struct FcCase {
  int rows, inputs, outputs;
};

void PrintTo(const FcCase& in, std::ostream* out) { *out << fmt::format("{} rows {} -> {}", in.rows, in.inputs, in.outputs); }

constexpr FcCase kMedium{12, 72, 20};  // outputs stored as 24

class FcTest : public OpTest {
 protected:
  void Prepare(Libraries& libraries, const FcCase& in, const FcUse& use) {
    in_ = in, use_ = use;
    const Precision precision = libraries.precision();
    stored_in_ = Stored(in.inputs), stored_out_ = Stored(in.outputs);
    shape_ = {in.rows, stored_in_, stored_out_};
    Map x = Random(precision, in.rows, in.inputs, 1, 1);
    reference::Relu(x);
    const Map w = Random(precision, in.outputs, in.inputs, 1, 1, 1 / std::sqrt(in.inputs));
    const Map bias = Random(Precision::kFp32, 1, in.outputs, 1, 1, 0.5), dy = Random(precision, in.rows, in.outputs, 1, 1);
    y_ = reference::FcForward(x, w, use.bias ? bias.values : std::vector<double>(static_cast<size_t>(in.outputs)));
    if (use.relu) reference::Relu(y_);
    dx_ = reference::FcBackwardData(dy, w, x);
    if (use.data_relu) reference::ReluBackward(x, dx_);
    const reference::WeightGradients gradients = reference::FcBackwardWeights(dy, x, w);
    dw_ = gradients.w;
    db_ = Map(1, in.outputs, 1, 1);
    db_.values = gradients.b;

    std::vector<float> weights = Nhwc(w, stored_in_);
    weights.resize(static_cast<size_t>(stored_out_) * stored_in_);
    at_x_ = ToDevice(libraries, x, stored_in_), at_dy_ = ToDevice(libraries, dy, stored_out_);
    at_w_ = ToDevice(libraries, weights, libraries.map_type());
    at_bias_ = ToDevice(libraries, Nhwc(bias, stored_out_), DataType::kFloat);
    at_y_ = DeviceBuffer(at_dy_.bytes()), at_dx_ = DeviceBuffer(at_x_.bytes());
    at_dw_ = DeviceBuffer(weights.size() * sizeof(float)), at_db_ = DeviceBuffer(static_cast<size_t>(stored_out_) * sizeof(float));
  }

  std::unique_ptr<FcOp> Create(Libraries& libraries, size_t workspace_limit = kAmpleWorkspace) {
    auto op = FcOp::Create(libraries, "fc", shape_, use_, workspace_limit);
    at_workspace_ = DeviceBuffer(op->workspace_bytes());
    return op;
  }

  void RunAll(FcOp& op) {
    op.Forward(at_x_.data(), at_w_.data(), use_.bias ? at_bias_.as<float>() : nullptr, at_y_.data(), at_workspace_.data());
    if (use_.data_gradient) op.BackwardData(at_dy_.data(), at_w_.data(), at_x_.data(), at_dx_.data(), at_workspace_.data());
    op.BackwardWeights(at_x_.data(), at_dy_.data(), at_dw_.as<float>(), use_.bias ? at_db_.as<float>() : nullptr,
                       at_workspace_.data());
  }

  void ExpectForward(Libraries& libraries, const std::string& what = "y") {
    ExpectNear(FromDevice(libraries, at_y_, libraries.map_type()), y_, stored_out_, Tolerance(libraries.precision()), what);
  }
  void ExpectBackwardData(Libraries& libraries, const std::string& what = "dx") {
    ExpectNear(FromDevice(libraries, at_dx_, libraries.map_type()), dx_, stored_in_, Tolerance(libraries.precision()), what);
  }
  // Gradients are sums of exact products in floats, in bf16 too.
  void ExpectBackwardWeights(Libraries& libraries, const std::string& what = "dw") {
    const double tolerance = libraries.precision() == Precision::kTf32 ? Tolerance(Precision::kTf32) : Tolerance(Precision::kFp32);
    std::vector<float> values = FromDevice(libraries, at_dw_, DataType::kFloat);
    const size_t real = static_cast<size_t>(in_.outputs) * static_cast<size_t>(stored_in_);
    for (size_t i = real; i < values.size(); ++i) ASSERT_EQ(values[i], 0) << what << ": padding at " << i;
    values.resize(real);
    ExpectNear(values, dw_, stored_in_, tolerance, what);
    if (use_.bias) ExpectNear(FromDevice(libraries, at_db_, DataType::kFloat), db_, stored_out_, tolerance, what + ", db");
  }
  void ExpectAll(Libraries& libraries) {
    ExpectForward(libraries);
    if (use_.data_gradient) ExpectBackwardData(libraries);
    ExpectBackwardWeights(libraries);
  }

  void RunPass(FcPass& pass, FcPassKind kind) {
    at_workspace_ = DeviceBuffer(pass.workspace_bytes());
    if (kind == FcPassKind::kForward) pass.Run({at_w_.data(), at_x_.data(), at_y_.data(), at_bias_.data()}, at_workspace_.data());
    if (kind == FcPassKind::kBackwardData)
      pass.Run({at_w_.data(), at_dy_.data(), at_dx_.data(), at_x_.data()}, at_workspace_.data());
    if (kind == FcPassKind::kBackwardWeights)
      pass.Run({at_x_.data(), at_dy_.data(), at_dw_.data(), at_db_.data()}, at_workspace_.data());
  }

  FcCase in_{};
  FcUse use_;
  FcShape shape_;
  int stored_in_ = 0, stored_out_ = 0;
  Map y_, dx_, dw_, db_;
  DeviceBuffer at_x_, at_w_, at_bias_, at_dy_, at_y_, at_dx_, at_dw_, at_db_, at_workspace_;
};

class FcCaseTest : public FcTest, public testing::WithParamInterface<std::tuple<Precision, FcCase>> {};

TEST_P(FcCaseTest, AllPassesAgreeWithNaiveLoops) {
  const auto& [precision, in] = GetParam();
  RecordedChoices choices;
  Libraries libraries(0, precision, true, choices);
  Prepare(libraries, in, {.bias = true, .relu = true, .data_relu = true});
  const auto op = Create(libraries);
  RunAll(*op);
  ExpectAll(libraries);
  EXPECT_EQ(op->algorithms().size(), 3u);
}

INSTANTIATE_TEST_SUITE_P(Shapes, FcCaseTest,
                         testing::Combine(testing::Values(Precision::kFp32, Precision::kTf32, Precision::kBf16),
                                          testing::Values(kMedium, FcCase{1, 8, 8}, FcCase{33, 200, 10}, FcCase{7, 43, 64})));

class FcPrecisionTest : public FcTest, public testing::WithParamInterface<Precision> {};
INSTANTIATE_TEST_SUITE_P(Precisions, FcPrecisionTest, testing::Values(Precision::kFp32, Precision::kTf32, Precision::kBf16),
                         [](const auto& test) { return PrecisionName(test.param); });

// Whatever timing would choose is right, and is what runs when it is on record.
TEST_P(FcPrecisionTest, EveryOfferIsReplayedAndAgrees) {
  OneChoice choices;
  Libraries libraries(0, GetParam(), false, choices);
  Prepare(libraries, kMedium, {.bias = true, .relu = true, .data_relu = true});
  for (const FcPassKind kind : kPasses) {
    choices.text.clear();
    const std::vector<std::string> offers = FcPass(libraries, "fc", kind, shape_, use_, kAmpleWorkspace).Offers();
    ASSERT_FALSE(offers.empty());
    for (const std::string& offer : offers) {
      choices.text = offer;
      FcPass pass(libraries, "fc", kind, shape_, use_, kAmpleWorkspace);
      EXPECT_THAT(pass.description(), HasSubstr(offer.substr(0, offer.find(" data="))));
      RunPass(pass, kind);
      if (kind == FcPassKind::kForward) ExpectForward(libraries, offer);
      if (kind == FcPassKind::kBackwardData) ExpectBackwardData(libraries, offer);
      if (kind == FcPassKind::kBackwardWeights) ExpectBackwardWeights(libraries, offer);
    }
  }
}

TEST_P(FcPrecisionTest, BiasAndReluAreOnlyAddedWhenAsked) {
  for (const bool bias : {false, true}) {
    for (const bool relu : {false, true}) {
      RecordedChoices choices;
      Libraries libraries(0, GetParam(), true, choices);
      Prepare(libraries, kMedium, {.bias = bias, .relu = relu});
      RunAll(*Create(libraries));
      ExpectAll(libraries);
    }
  }
}

TEST_P(FcPrecisionTest, CapturedPassesGiveTheSame) {
  RecordedChoices choices;
  Libraries libraries(0, GetParam(), true, choices);
  Prepare(libraries, kMedium, {.bias = true, .relu = true, .data_relu = true});
  const auto op = Create(libraries);
  libraries.ReleaseScratch();
  const cudaStream_t stream = libraries.stream().get();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  RunAll(*op);
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  for (int i = 0; i < 2; ++i) ASSERT_EQ(cudaGraphLaunch(exec, stream), cudaSuccess);
  ExpectAll(libraries);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
}

TEST_P(FcPrecisionTest, DeterministicPassesGiveTheSameBitsAgain) {
  RecordedChoices choices;
  Libraries libraries(0, GetParam(), true, choices);
  Prepare(libraries, kMedium, {.bias = true, .relu = true, .data_relu = true});
  const auto op = Create(libraries);
  std::vector<float> first;
  for (int i = 0; i < 3; ++i) {
    RunAll(*op);
    std::vector<float> all = FromDevice(libraries, at_dw_, DataType::kFloat);
    for (const float value : FromDevice(libraries, at_db_, DataType::kFloat)) all.push_back(value);
    for (const float value : FromDevice(libraries, at_y_, libraries.map_type())) all.push_back(value);
    if (first.empty()) first = all;
    EXPECT_EQ(all, first);
  }
}

TEST_F(FcTest, ChoicesAreRecordedByShapeAndReplayedForOtherBatches) {
  RecordedChoices choices;
  Libraries libraries(0, Precision::kBf16, true, choices);
  Prepare(libraries, kMedium, {.bias = true, .relu = true, .data_relu = true});
  Create(libraries);
  const std::string tail = fmt::format(" 72 -> 24 bf16 deterministic, {}, {}", libraries.device_name(), libraries.cublas_version());
  std::vector<std::string> keys;
  for (const auto& [key, text] : choices.texts) keys.push_back(key);
  EXPECT_THAT(keys, testing::UnorderedElementsAre("fc forward+bias+relu" + tail, "fc backward data+relu" + tail,
                                                  "fc backward weights+bias" + tail));
  Prepare(libraries, {11, 72, 20}, use_);
  RunAll(*Create(libraries));
  ExpectAll(libraries);
  EXPECT_EQ(choices.timed, 3);
}

TEST_F(FcTest, WhatCannotBeBuiltIsTimedAgain) {
  RecordedChoices choices;
  Libraries libraries(0, Precision::kFp32, true, choices);
  Prepare(libraries, kMedium, {.bias = true, .relu = true, .data_relu = true});
  Create(libraries);
  std::string altered = choices.texts.begin()->second;
  altered.replace(altered.find("tile="), 5, "tile=7");  // words that do not agree with the data
  for (const std::string& text : {std::string("algo 3 plain"), std::string("engine 4 plain"), std::string(), altered}) {
    for (auto& [key, recorded] : choices.texts) recorded = text;
    testing::internal::CaptureStderr();
    const auto op = Create(libraries);
    EXPECT_THAT(testing::internal::GetCapturedStderr(),
                HasSubstr("the algorithm on record, \"" + text + "\", cannot be used here"));
    RunAll(*op);
    ExpectAll(libraries);
  }
}

// Partial sums that are added in the order of their arrival, or in bf16, are for nobody who asked for the same bits, or for bf16 at
// all.
TEST_F(FcTest, SplitSumsAreAddedInFloatsAndInAFixedOrderWhenDeterministic) {
  OneChoice choices;
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    Libraries fixed(0, precision, true, choices);
    Prepare(fixed, kMedium, {.bias = true, .relu = true});
    for (const FcPassKind kind : kPasses) {
      for (const std::string& offer : FcPass(fixed, "fc", kind, shape_, use_, kAmpleWorkspace).Offers()) {
        if (offer.find(" splitk=1 ") != std::string::npos) continue;
        EXPECT_THAT(offer,
                    testing::Not(HasSubstr(fmt::format(" reduction={} ", static_cast<int>(CUBLASLT_REDUCTION_SCHEME_INPLACE)))));
        if (precision != Precision::kBf16 || kind == FcPassKind::kBackwardWeights) continue;
        EXPECT_THAT(offer, HasSubstr(fmt::format(" reduction={} ", static_cast<int>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE))));
      }
    }
  }
}

TEST_F(FcTest, WorkspaceStaysWithinItsLimit) {
  OneChoice choices;
  Libraries libraries(0, Precision::kFp32, true, choices);
  Prepare(libraries, kMedium, {.bias = true, .relu = true, .data_relu = true});
  for (const FcPassKind kind : kPasses) {
    for (const size_t limit : {size_t{4096}, kAmpleWorkspace}) {
      FcPass pass(libraries, "fc", kind, shape_, use_, limit);
      EXPECT_LE(pass.workspace_bytes(), limit);
    }
  }
}

TEST_F(FcTest, MemoryTooShortForTimingTakesTheFirstOfferAndSaysSo) {
  OneChoice choices;
  Libraries libraries(0, Precision::kFp32, true, choices);
  Prepare(libraries, kMedium, {.bias = true});
  FcShape huge = shape_;
  huge.inputs = huge.outputs = int64_t{1} << 21;  // terabytes of weights: no algorithm, or no scratch for timing
  testing::internal::CaptureStderr();
  std::string fault;
  try {
    FcOp::Create(libraries, "fc_huge", huge, use_, kAmpleWorkspace);
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.code(), ErrorCode::kUnsupported) << failure.what();
    EXPECT_THAT(failure.what(), StartsWith("fc_huge: "));
    fault = failure.what();
  }
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(!fault.empty() || log.find("fc_huge forward: not timed, ") != std::string::npos) << log;
  RunAll(*Create(libraries));
  ExpectAll(libraries);
}

}  // namespace
}  // namespace plateau::cuda
