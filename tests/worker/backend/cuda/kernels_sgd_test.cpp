// The update and its gate against the formula, to the last bit.
#include <gmock/gmock.h>

#include <algorithm>

#include "tests/worker/backend/cuda/kernels_fixture.h"

namespace plateau::cuda {
namespace {

constexpr float kMomentum = 0.9F, kRate = 0.0123F, kDecay = 5e-4F;
constexpr float kUntouched = 77;

// Spans of awkward lengths with gaps up to the next multiple of 64: shorter than a vector, whole runs of a block, ends on every
// border.
std::vector<ParameterSpan> Spans() {
  std::vector<ParameterSpan> spans;
  int64_t begin = 64;  // nothing in front
  for (const int64_t count : {5, 64, 1, 100003, 8, 63, 8192, 1000, 24576, 7, 16, 30001}) {
    const auto number = static_cast<int64_t>(spans.size());
    spans.push_back({.begin = begin, .count = count, .weight_decay = number % 3 == 1 ? 0 : kDecay});
    if (number == 5 || number == 6) spans.back().average_momentum = 0.1F;
    begin += (count + 63) / 64 * 64;
  }
  return spans;
}
int64_t Total(const std::vector<ParameterSpan>& spans) { return spans.back().begin + (spans.back().count + 63) / 64 * 64; }

class SgdTest : public KernelTest {
 protected:
  struct State {
    std::vector<float> w, v, g;
  };
  static State Values(const std::vector<ParameterSpan>& spans) {
    const auto total = static_cast<size_t>(Total(spans));
    State state{std::vector<float>(total, kUntouched), std::vector<float>(total, kUntouched),
                std::vector<float>(total, kUntouched)};
    for (size_t p = 0; p < spans.size(); ++p) {
      const auto w = RandomFloats(spans[p].count, 3 * p), v = RandomFloats(spans[p].count, 3 * p + 1),
                 g = RandomFloats(spans[p].count, 3 * p + 2);
      std::copy(w.begin(), w.end(), state.w.begin() + spans[p].begin);
      std::copy(v.begin(), v.end(), state.v.begin() + spans[p].begin);
      std::copy(g.begin(), g.end(), state.g.begin() + spans[p].begin);
    }
    return state;
  }
  struct After {
    std::vector<float> w, v;
    std::vector<uint16_t> copy;
    TrainerFlags flags;
  };
  After Run(const State& state, const std::vector<ParameterSpan>& spans, bool copy = true, const TrainerFlags& before = {},
            int steps = 1) {
    const auto total = static_cast<int64_t>(state.w.size());
    const auto w = Upload(state.w), v = Upload(state.v), g = Upload(state.g);
    const auto device_spans = Upload(spans);
    const auto scalars = Upload(std::vector<StepScalars>{{.lr = kRate}});
    const auto flags = Upload(std::vector<TrainerFlags>{before});
    const DeviceArray<uint16_t> half(stream(), total);
    const SgdBuffers buffers{w.data(), v.data(), g.data(), copy ? half.data() : nullptr, total};
    for (int step = 0; step < steps; ++step)
      SgdUpdate(queue(), buffers, device_spans.data(), static_cast<int>(spans.size()), kMomentum, scalars.data(), flags.data());
    return {w.Read(), v.Read(), half.Read(), flags.ReadOne()};
  }
};
INSTANTIATE_TEST_SUITE_P(Type, SgdTest, testing::Values(DataType::kBf16), TypeName);

// The operations of worker/train/sgd.cpp, each rounded to float by itself.
void Reference(std::vector<float>& w, std::vector<float>& v, const std::vector<float>& g, const ParameterSpan& span) {
  for (int64_t i = span.begin; i < span.begin + span.count; ++i) {
    const auto at = static_cast<size_t>(i);
    if (span.average_momentum > 0) {
      const float old = (1 - span.average_momentum) * w[at], fresh = span.average_momentum * g[at];
      w[at] = old + fresh;
      continue;
    }
    const float kept = kMomentum * v[at], decay = span.weight_decay * w[at], slope = g[at] + decay, move = kRate * slope;
    v[at] = kept - move;
    w[at] = w[at] + v[at];
  }
}

TEST_P(SgdTest, EqualsTheFormulaBitForBitAndLeavesGapsAlone) {
  const auto spans = Spans();
  const State state = Values(spans);
  for (const bool copy : {true, false}) {
    const After got = Run(state, spans, copy, {}, 3);
    State right = state;
    for (int step = 0; step < 3; ++step)
      for (const ParameterSpan& span : spans) Reference(right.w, right.v, state.g, span);
    EXPECT_EQ(Differences(Doubles(got.w), Doubles(right.w), 0), "");
    EXPECT_EQ(Differences(Doubles(got.v), Doubles(right.v), 0), "");
    EXPECT_EQ(got.flags.halted, 0);
    EXPECT_EQ(got.flags.nonfinite_parameter, INT32_MAX);
    std::vector<bool> covered(state.w.size());
    for (const ParameterSpan& span : spans)
      for (int64_t i = 0; i < span.count; ++i) covered[static_cast<size_t>(span.begin + i)] = true;
    int64_t wrong = 0;
    for (size_t i = 0; i < covered.size(); ++i) wrong += got.copy[i] != (copy && covered[i] ? Bf16Bits(right.w[i]) : 0xFFFF);
    EXPECT_EQ(wrong, 0) << "values of the copy";
  }
}

TEST_P(SgdTest, NothingMovesWhenHalted) {
  const auto spans = Spans();
  const State state = Values(spans);
  const After got = Run(state, spans, true, {.halted = 1});
  EXPECT_EQ(got.w, state.w);
  EXPECT_EQ(got.v, state.v);
  EXPECT_THAT(got.copy, testing::Each(0xFFFF));
  EXPECT_EQ(got.flags.nonfinite_parameter, INT32_MAX);
}

TEST_P(SgdTest, NamesTheLowestParameterThatIsNotFinite) {
  const auto spans = Spans();
  for (const auto& bad : std::vector<std::vector<size_t>>{{0}, {3}, {11}, {9, 3, 6}, {2, 10}}) {
    State state = Values(spans);
    for (const size_t p : bad) state.g[static_cast<size_t>(spans[p].begin + spans[p].count - 1)] = p % 2 == 0 ? kNan : kInfinity;
    EXPECT_EQ(Run(state, spans).flags.nonfinite_parameter, *std::min_element(bad.begin(), bad.end())) << bad[0];
  }
}

TEST_P(SgdTest, OneSpanOverTheWholeBuffer) {
  const std::vector<ParameterSpan> spans{{.begin = 0, .count = 64 * 1024 + 8, .weight_decay = kDecay}};
  const State state = Values(spans);
  State right = state;
  Reference(right.w, right.v, state.g, spans[0]);
  EXPECT_EQ(Run(state, spans).w, right.w);
}

TEST_P(SgdTest, TotalsCarryLossCountsAndVotes) {
  const DeviceLoss loss{.loss = 12.5, .images = 256, .top1_correct = 31, .top5_correct = 99, .nonfinite = 0};
  DeviceLoss bad = loss;
  bad.nonfinite = 3;
  StepScalars scalars;
  for (int vote = 0; vote < 4; ++vote) scalars.votes[vote] = static_cast<float>(vote + 1);
  const auto good = Upload(std::vector<DeviceLoss>{loss}), broken = Upload(std::vector<DeviceLoss>{bad});
  const auto device_scalars = Upload(std::vector<StepScalars>{scalars});
  const auto shown = Upload(std::vector<int32_t>{0}), hidden = Upload(std::vector<int32_t>{1});
  const DeviceArray<float> totals(stream(), kTotals);
  const auto pack = [&](const DeviceArray<DeviceLoss>& from, const int32_t* flag) {
    PackTotals(queue(), from.data(), flag, device_scalars.data(), totals.data());
    return totals.Read();
  };
  const std::vector<float> fine{12.5, 256, 31, 0, 1, 2, 3, 4}, halting{12.5, 256, 31, 1, 1, 2, 3, 4};
  EXPECT_EQ(pack(good, shown.data()), fine);
  EXPECT_EQ(pack(good, nullptr), fine);
  EXPECT_EQ(pack(good, hidden.data()), halting);
  EXPECT_EQ(pack(broken, shown.data()), halting);
}

TEST_P(SgdTest, GateShutsForAnySumThatIsNotZeroAndStaysShut) {
  const auto flags = Upload(std::vector<TrainerFlags>{{}});
  const auto gate = [&](float nonfinite) {
    std::vector<float> totals(kTotals, 1.0F);
    totals[3] = nonfinite;
    const auto device = Upload(totals);
    GateUpdate(queue(), device.data(), flags.data());
    return flags.ReadOne().halted;
  };
  EXPECT_EQ(gate(0), 0);
  EXPECT_EQ(gate(2), 1);
  EXPECT_EQ(gate(0), 1);
  const auto fresh = Upload(std::vector<TrainerFlags>{{}});
  std::vector<float> totals(kTotals, kNan);
  const auto device = Upload(totals);
  GateUpdate(queue(), device.data(), fresh.data());
  EXPECT_EQ(fresh.ReadOne().halted, 1);
}

}  // namespace
}  // namespace plateau::cuda
