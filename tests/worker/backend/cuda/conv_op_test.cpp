// Convolutions by cuDNN against the naive loops: every pass, every way of fusing, every engine on offer.
#include "worker/backend/cuda/conv_op.h"

#include <optional>

#include "tests/worker/backend/cuda/op_fixture.h"
#include "worker/backend/cuda/conv_pass.h"
#include "worker/nn/recorded_choices.h"

namespace plateau::cuda {
namespace {

using reference::Map;
using testing::Contains;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr ConvPassKind kPasses[] = {ConvPassKind::kForward, ConvPassKind::kBackwardData, ConvPassKind::kBackwardWeights};

struct ConvCase {
  int n, c, stored, side, k, kernel, stride, pad;
};

void PrintTo(const ConvCase& in, std::ostream* out) {
  *out << fmt::format("{}x{}({})x{}x{} k{} {}x{} s{} p{}", in.n, in.c, in.stored, in.side, in.side, in.k, in.kernel, in.kernel,
                      in.stride, in.pad);
}

constexpr ConvCase kMedium{3, 16, 16, 9, 24, 3, 1, 1};

class ConvTest : public OpTest {
 protected:
  // Maps and weights, what the naive loops make of them, and the same on the device.
  void Prepare(Libraries& libraries, const ConvCase& in, const ConvUse& use) {
    in_ = in, use_ = use;
    const Precision precision = libraries.precision();
    const int out = (in.side + 2 * in.pad - in.kernel) / in.stride + 1;
    shape_ = {{in.n, in.side, in.side, in.c, in.stored}, {in.n, out, out, in.k, Stored(in.k)}, in.kernel, in.stride, in.pad};
    Map x = Random(precision, in.n, in.c, in.side, in.side);
    reference::Relu(x);
    const Map w = Random(precision, in.k, in.c, in.kernel, in.kernel, 1 / std::sqrt(in.c * in.kernel * in.kernel));
    const Map bias = Random(Precision::kFp32, 1, in.k, 1, 1, 0.5), dy = Random(precision, in.n, in.k, out, out);
    const reference::Window window{in.kernel, in.stride, in.pad};
    y_ = reference::ConvForward(x, w, use.bias ? bias.values : std::vector<double>(static_cast<size_t>(in.k)), window);
    if (use.relu) reference::Relu(y_);
    dx_ = reference::ConvBackwardData(dy, w, x, window);
    if (use.data_relu) reference::ReluBackward(x, dx_);
    dw_ = reference::ConvBackwardWeights(dy, x, w, window).w;

    std::vector<float> weights = Nhwc(w, in.stored);
    weights.resize(static_cast<size_t>(shape_.y.stored) * in.kernel * in.kernel * in.stored);
    at_x_ = ToDevice(libraries, x, in.stored), at_dy_ = ToDevice(libraries, dy, shape_.y.stored);
    at_w_ = ToDevice(libraries, weights, libraries.map_type());
    at_bias_ = ToDevice(libraries, Nhwc(bias, shape_.y.stored), DataType::kFloat);
    const auto value = static_cast<size_t>(SizeOf(libraries.map_type()));
    at_y_ = DeviceBuffer(static_cast<size_t>(shape_.y.values()) * value);
    at_dx_ = DeviceBuffer(static_cast<size_t>(shape_.x.values()) * value);
    at_dw_ = DeviceBuffer(weights.size() * sizeof(float));
  }

  std::unique_ptr<ConvOp> Create(Libraries& libraries, size_t workspace_limit = kAmpleWorkspace) {
    auto op = ConvOp::Create(libraries, "conv", shape_, use_, workspace_limit);
    at_workspace_ = DeviceBuffer(op->workspace_bytes());
    return op;
  }

  void RunAll(ConvOp& op) {
    op.Forward(at_x_.data(), at_w_.data(), use_.bias ? at_bias_.as<float>() : nullptr, at_y_.data(), at_workspace_.data());
    if (use_.data_gradient) op.BackwardData(at_dy_.data(), at_w_.data(), at_x_.data(), at_dx_.data(), at_workspace_.data());
    op.BackwardWeights(at_x_.data(), at_dy_.data(), at_dw_.as<float>(), at_workspace_.data());
  }

  void ExpectForward(Libraries& libraries, const std::string& what = "y") {
    ExpectNear(FromDevice(libraries, at_y_, libraries.map_type()), y_, shape_.y.stored, Tolerance(libraries.precision()), what);
  }
  void ExpectBackwardData(Libraries& libraries, const std::string& what = "dx") {
    ExpectNear(FromDevice(libraries, at_dx_, libraries.map_type()), dx_, shape_.x.stored, Tolerance(libraries.precision()), what);
  }
  void ExpectBackwardWeights(Libraries& libraries, const std::string& what = "dw") {
    std::vector<float> values = FromDevice(libraries, at_dw_, DataType::kFloat);
    const size_t real = static_cast<size_t>(in_.k) * in_.kernel * in_.kernel * in_.stored;
    for (size_t i = real; i < values.size(); ++i) ASSERT_EQ(values[i], 0) << what << ": padding at " << i;
    values.resize(real);
    ExpectNear(values, dw_, in_.stored, Tolerance(libraries.precision()), what);
  }
  void ExpectAll(Libraries& libraries) {
    ExpectForward(libraries);
    if (use_.data_gradient) ExpectBackwardData(libraries);
    ExpectBackwardWeights(libraries);
  }

  void RunPass(ConvPass& pass, ConvPassKind kind) {
    at_workspace_ = DeviceBuffer(pass.workspace_bytes());
    if (kind == ConvPassKind::kForward) pass.Run({at_x_.data(), at_w_.data(), at_bias_.data(), at_y_.data()}, at_workspace_.data());
    if (kind == ConvPassKind::kBackwardData)
      pass.Run({at_dy_.data(), at_w_.data(), at_x_.data(), at_dx_.data()}, at_workspace_.data());
    if (kind == ConvPassKind::kBackwardWeights)
      pass.Run({at_x_.data(), at_dy_.data(), nullptr, at_dw_.data()}, at_workspace_.data());
  }

  std::vector<std::string> Offers(Libraries& libraries, ConvPassKind kind, size_t workspace_limit = kAmpleWorkspace) {
    return ConvPass(libraries, "conv", kind, shape_, use_, workspace_limit).Offers();
  }

  ConvCase in_{};
  ConvUse use_;
  ConvShape shape_;
  Map y_, dx_, dw_;
  DeviceBuffer at_x_, at_w_, at_bias_, at_dy_, at_y_, at_dx_, at_dw_, at_workspace_;
};

class ConvCaseTest : public ConvTest, public testing::WithParamInterface<std::tuple<Precision, ConvCase>> {};

TEST_P(ConvCaseTest, AllPassesAgreeWithNaiveLoops) {
  const auto& [precision, in] = GetParam();
  RecordedChoices choices;
  Libraries libraries(0, precision, true, choices);
  // Own kernels take multiples of 8 channels: images stored with 4 are a first layer's.
  const bool gradient = in.stored % kChannelAlign == 0;
  Prepare(libraries, in, {.bias = true, .relu = true, .data_gradient = gradient, .data_relu = gradient});
  const auto op = Create(libraries);
  RunAll(*op);
  ExpectAll(libraries);
  EXPECT_EQ(op->algorithms().size(), gradient ? 3u : 2u);
}

// Kernels 1, 3, 5, 7 and 11; strides; pads; channels and outputs that are no multiple of 8; images stored with 8 and 4 channels.
INSTANTIATE_TEST_SUITE_P(Shapes, ConvCaseTest,
                         testing::Combine(testing::Values(Precision::kFp32, Precision::kTf32, Precision::kBf16),
                                          testing::Values(kMedium, ConvCase{2, 8, 8, 7, 16, 1, 1, 0},
                                                          ConvCase{2, 16, 16, 8, 8, 1, 2, 0}, ConvCase{1, 8, 8, 11, 8, 5, 2, 2},
                                                          ConvCase{1, 8, 8, 13, 8, 7, 2, 3}, ConvCase{1, 3, 8, 27, 16, 11, 4, 0},
                                                          ConvCase{2, 3, 8, 12, 16, 3, 1, 1}, ConvCase{2, 3, 4, 12, 16, 3, 1, 1},
                                                          ConvCase{2, 5, 8, 6, 10, 3, 1, 1}, ConvCase{2, 8, 8, 8, 8, 3, 2, 1})));

class ConvPrecisionTest : public ConvTest, public testing::WithParamInterface<Precision> {};
INSTANTIATE_TEST_SUITE_P(Precisions, ConvPrecisionTest, testing::Values(Precision::kFp32, Precision::kTf32, Precision::kBf16),
                         [](const auto& test) { return PrecisionName(test.param); });

// Whatever timing would choose is right, and is what runs when it is on record.
TEST_P(ConvPrecisionTest, EveryOfferIsReplayedAndAgrees) {
  OneChoice choices;
  Libraries libraries(0, GetParam(), false, choices);
  Prepare(libraries, kMedium, {.bias = true, .relu = true, .data_relu = true});
  for (const ConvPassKind kind : kPasses) {
    choices.text.clear();
    const std::vector<std::string> offers = Offers(libraries, kind);
    ASSERT_FALSE(offers.empty());
    for (const std::string& offer : offers) {
      choices.text = offer;
      ConvPass pass(libraries, "conv", kind, shape_, use_, kAmpleWorkspace);
      EXPECT_THAT(pass.description(), HasSubstr(offer.substr(0, offer.rfind(' '))));
      RunPass(pass, kind);
      if (kind == ConvPassKind::kForward) ExpectForward(libraries, offer);
      if (kind == ConvPassKind::kBackwardData) ExpectBackwardData(libraries, offer);
      if (kind == ConvPassKind::kBackwardWeights) ExpectBackwardWeights(libraries, offer);
    }
  }
}

TEST_P(ConvPrecisionTest, BiasAndReluAreOnlyAddedWhenAsked) {
  for (const bool bias : {false, true}) {
    for (const bool relu : {false, true}) {
      RecordedChoices choices;
      Libraries libraries(0, GetParam(), true, choices);
      Prepare(libraries, kMedium, {.bias = bias, .relu = relu, .data_relu = false});
      RunAll(*Create(libraries));
      ExpectAll(libraries);
    }
  }
}

TEST_P(ConvPrecisionTest, FirstLayerHasNoDataGradientAndATestPlanNoGradients) {
  RecordedChoices choices;
  Libraries libraries(0, GetParam(), true, choices);
  Prepare(libraries, kMedium, {.bias = true, .relu = true, .data_gradient = false});
  const auto first = Create(libraries);
  EXPECT_EQ(first->algorithms().size(), 2u);
  RunAll(*first);
  ExpectAll(libraries);
  use_.training = false;
  EXPECT_EQ(Create(libraries)->algorithms().size(), 1u);
  EXPECT_EQ(choices.timed, 2) << "a test plan's forward pass is the training plan's";
}

TEST_P(ConvPrecisionTest, CapturedPassesGiveTheSame) {
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

TEST_P(ConvPrecisionTest, MoreAddressesThanArePreparedTakeTurns) {
  RecordedChoices choices;
  Libraries libraries(0, GetParam(), true, choices);
  Prepare(libraries, kMedium, {.bias = true, .relu = true});
  const auto op = Create(libraries);
  std::vector<DeviceBuffer> outputs;
  for (int i = 0; i < 12; ++i) outputs.emplace_back(at_y_.bytes());
  for (int turn = 0; turn < 2; ++turn)
    for (DeviceBuffer& output : outputs)
      op->Forward(at_x_.data(), at_w_.data(), at_bias_.as<float>(), output.data(), at_workspace_.data());
  for (DeviceBuffer& output : outputs) {
    at_y_ = std::move(output);
    ExpectForward(libraries);
  }
}

TEST_P(ConvPrecisionTest, DeterministicPassesGiveTheSameBitsAgain) {
  RecordedChoices choices;
  Libraries libraries(0, GetParam(), true, choices);
  Prepare(libraries, kMedium, {.bias = true, .relu = true, .data_relu = true});
  const auto op = Create(libraries);
  std::vector<float> first;
  for (int i = 0; i < 3; ++i) {
    RunAll(*op);
    std::vector<float> all = FromDevice(libraries, at_dw_, DataType::kFloat);
    for (const float value : FromDevice(libraries, at_dx_, libraries.map_type())) all.push_back(value);
    for (const float value : FromDevice(libraries, at_y_, libraries.map_type())) all.push_back(value);
    if (first.empty()) first = all;
    EXPECT_EQ(all, first);
  }
}

TEST_F(ConvTest, KeysNameLayerPassShapePrecisionAndDeviceButNotTheBatch) {
  RecordedChoices choices;
  Libraries libraries(0, Precision::kFp32, true, choices);
  Prepare(libraries, kMedium, {.bias = true, .relu = true, .data_relu = true});
  const auto op = Create(libraries);
  EXPECT_EQ(choices.timed, 3);
  const std::string tail =
      fmt::format(" 16x9x9 k24 3x3 s1 p1 fp32 deterministic, {}, {}", libraries.device_name(), libraries.cudnn_version());
  std::vector<std::string> keys;
  for (const auto& [key, text] : choices.texts) keys.push_back(key);
  EXPECT_THAT(keys, testing::UnorderedElementsAre("conv forward+bias+relu" + tail, "conv backward data+relu" + tail,
                                                  "conv backward weights" + tail));
  ConvCase other = kMedium;
  other.n = 2;
  Prepare(libraries, other, use_);
  RunAll(*Create(libraries));
  ExpectAll(libraries);
  EXPECT_EQ(choices.timed, 3) << "another batch uses what is on record";
}

TEST_F(ConvTest, LayersOfOneShapeAreTimedOnceAndRecordedEach) {
  RecordedChoices choices;
  Libraries libraries(0, Precision::kFp32, true, choices);
  Prepare(libraries, kMedium, {.bias = true, .relu = true, .data_relu = true});
  ConvOp::Create(libraries, "conv3_2", shape_, use_, kAmpleWorkspace);
  ConvOp::Create(libraries, "conv3_3", shape_, use_, kAmpleWorkspace);
  EXPECT_EQ(choices.texts.size(), 6u);
  std::map<std::string, std::string> by_pass;
  for (const auto& [key, text] : choices.texts) EXPECT_EQ(by_pass.try_emplace(key.substr(8), text).first->second, text);
  EXPECT_EQ(by_pass.size(), 3u);
}

TEST_F(ConvTest, WhatCannotBeBuiltIsTimedAgainAndReplacedOnRecord) {
  plateau::RecordedChoices first({}, {});
  Libraries libraries(0, Precision::kFp32, true, first);
  Prepare(libraries, kMedium, {.bias = true, .relu = true, .data_relu = true});
  Create(libraries);
  libraries.stream().Wait();  // what the others read
  for (const std::string text : {"engine 999999 plain", "engine 0 sideways", "engine x", "", "algo 3"}) {
    ChoiceTable stale = first.all();
    for (auto& [key, recorded] : stale) recorded = text;
    plateau::RecordedChoices choices(stale, {});
    Libraries again(0, Precision::kFp32, true, choices);
    testing::internal::CaptureStderr();
    const auto op = Create(again);
    EXPECT_THAT(testing::internal::GetCapturedStderr(),
                HasSubstr("the algorithm on record, \"" + text + "\", cannot be used here"));
    RunAll(*op);
    ExpectAll(again);
    EXPECT_EQ(choices.all().size(), stale.size()) << "nothing but the stale ones was replaced";
    for (const auto& [key, recorded] : choices.all()) EXPECT_NE(recorded, text) << key;
    EXPECT_EQ(choices.timed(), choices.all());
  }
}

// As a validation plan beside a training plan: what the first one runs stays on record, and the second one's own is found again.
TEST_F(ConvTest, APlanWithTooLittleWorkspaceLeavesTheOthersTheirChoice) {
  plateau::RecordedChoices offers({}, {});
  Libraries libraries(0, Precision::kBf16, true, offers);
  Prepare(libraries, kMedium, {.bias = true, .relu = true, .data_relu = true});
  const auto pass = [&](Libraries& with, size_t limit) {
    return ConvPass(with, "conv", ConvPassKind::kBackwardWeights, shape_, use_, limit);
  };
  const std::string key = [&] {
    pass(libraries, kAmpleWorkspace);
    return offers.all().begin()->first;
  }();
  std::string hungry;
  size_t largest = 0;
  for (const std::string& offer : Offers(libraries, ConvPassKind::kBackwardWeights)) {
    plateau::RecordedChoices one({{key, offer}}, {});
    Libraries with(0, Precision::kBf16, true, one);
    const size_t bytes = pass(with, kAmpleWorkspace).workspace_bytes();
    if (bytes > largest) largest = bytes, hungry = offer;
  }
  ASSERT_GT(largest, 0u) << "no engine on offer wants workspace";
  plateau::RecordedChoices choices({}, {{key, hungry}});
  Libraries with(0, Precision::kBf16, true, choices);
  EXPECT_EQ(pass(with, kAmpleWorkspace).workspace_bytes(), largest);
  testing::internal::CaptureStderr();
  const std::string small = pass(with, largest - 1).description();
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("of workspace, and "));
  EXPECT_EQ(choices.all().at(key), hungry);
  EXPECT_EQ(choices.all().size(), 2u);
  EXPECT_EQ(pass(with, kAmpleWorkspace).workspace_bytes(), largest);

  plateau::RecordedChoices resumed(choices.all(), {});
  Libraries later(0, Precision::kBf16, true, resumed);
  testing::internal::CaptureStderr();
  EXPECT_EQ(pass(later, largest - 1).description(), small);
  EXPECT_EQ(pass(later, kAmpleWorkspace).workspace_bytes(), largest);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_TRUE(resumed.timed().empty());
}

TEST_F(ConvTest, DeterministicLeavesOutAndRefusesEnginesWhoseBitsDiffer) {
  OneChoice choices;
  Libraries free(0, Precision::kFp32, false, choices), fixed(0, Precision::kFp32, true, choices);
  Prepare(free, kMedium, {.bias = true, .relu = true, .data_relu = true});
  bool differed = false;
  for (const ConvPassKind kind : {ConvPassKind::kBackwardData, ConvPassKind::kBackwardWeights}) {
    choices.text.clear();
    const std::vector<std::string> allowed = Offers(fixed, kind, kAmpleWorkspace), all = Offers(free, kind, kAmpleWorkspace);
    for (const std::string& offer : all) {
      if (std::find(allowed.begin(), allowed.end(), offer) != allowed.end()) continue;
      choices.text = offer;
      const std::string engine = offer.substr(0, offer.rfind(' '));
      EXPECT_THAT(ConvPass(free, "conv", kind, shape_, use_, kAmpleWorkspace).description(), HasSubstr(engine));
      testing::internal::CaptureStderr();
      const std::string taken = ConvPass(fixed, "conv", kind, shape_, use_, kAmpleWorkspace).description();
      // More than kMaxCandidates may be allowed: only what is refused for its bits counts.
      const std::string warning = testing::internal::GetCapturedStderr();
      if (warning.find("its bits differ from run to run") == std::string::npos) continue;
      differed = true;
      EXPECT_THAT(taken, Not(HasSubstr(engine + " ")));
    }
  }
  EXPECT_TRUE(differed) << "no engine on offer is nondeterministic: the filter was not tried";
}

TEST_F(ConvTest, Fp32RefusesEnginesThatRoundToTf32) {
  OneChoice choices;
  Libraries tf32(0, Precision::kTf32, true, choices), fp32(0, Precision::kFp32, true, choices);
  Prepare(tf32, kMedium, {.bias = true, .relu = true});
  bool refused = false;
  for (const std::string& offer : Offers(tf32, ConvPassKind::kForward)) {
    choices.text = offer;
    testing::internal::CaptureStderr();
    ConvPass pass(fp32, "conv", ConvPassKind::kForward, shape_, use_, kAmpleWorkspace);
    const std::string warning = testing::internal::GetCapturedStderr();
    refused = refused || warning.find("it multiplies in tensor cores") != std::string::npos;
  }
  EXPECT_TRUE(refused) << "no engine on offer uses tensor cores: the filter was not tried";
}

TEST_F(ConvTest, WorkspaceStaysWithinItsLimit) {
  OneChoice choices;
  Libraries libraries(0, Precision::kBf16, true, choices);
  Prepare(libraries, kMedium, {.bias = true, .relu = true, .data_relu = true});
  size_t largest = 0;
  std::string hungry;
  const std::vector<std::string> offers = Offers(libraries, ConvPassKind::kBackwardWeights);
  for (const std::string& offer : offers) {
    choices.text = offer;
    const size_t bytes =
        ConvPass(libraries, "conv", ConvPassKind::kBackwardWeights, shape_, use_, kAmpleWorkspace).workspace_bytes();
    EXPECT_LE(bytes, kAmpleWorkspace);
    if (bytes <= largest) continue;
    largest = bytes;
    hungry = offer;
  }
  ASSERT_GT(largest, 0u) << "no engine on offer wants workspace: the limit was not tried";
  choices.text = hungry;
  EXPECT_EQ(ConvPass(libraries, "conv", ConvPassKind::kBackwardWeights, shape_, use_, largest + kWorkspaceAlign).workspace_bytes(),
            largest);
  testing::internal::CaptureStderr();
  EXPECT_LT(ConvPass(libraries, "conv", ConvPassKind::kBackwardWeights, shape_, use_, largest - 1).workspace_bytes(), largest);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("of workspace, and "));
}

// Beyond every device's memory: either no engine takes so many pixels, or timing goes without its scratch.
TEST_F(ConvTest, MemoryTooShortForTimingTakesTheFirstOfferAndSaysSo) {
  RecordedChoices choices;
  Libraries libraries(0, Precision::kFp32, true, choices);
  Prepare(libraries, kMedium, {.bias = true, .relu = true});
  ConvShape huge = shape_;
  huge.x.n = huge.y.n = 1 << 26;
  testing::internal::CaptureStderr();
  std::string fault;
  try {
    ConvOp::Create(libraries, "conv_huge", huge, use_, kAmpleWorkspace);
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.code(), ErrorCode::kUnsupported) << failure.what();
    EXPECT_THAT(failure.what(), StartsWith("conv_huge: "));
    fault = failure.what();
  }
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(!fault.empty() || log.find("conv_huge forward: not timed, ") != std::string::npos) << log;
  RunAll(*Create(libraries));
  ExpectAll(libraries);
}

}  // namespace
}  // namespace plateau::cuda
