// What the tests of single compiled operators share: random maps, layouts, one pass of a layer, and the error against the naive
// loops.
#pragma once

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>

#include "common/random.h"
#include "worker/backend/cpu/conv_layer.h"
#include "worker/backend/cpu/cpu_layer.h"
#include "worker/nn/reference.h"

namespace plateau {

using dnnl::memory;
using reference::Map;
constexpr double kTolerance = 1e-5;  // relative L2

class Layers : public testing::Test {
 protected:
  Layers() { omp_set_num_threads(2); }

  // Values that float32 holds exactly, so that both sides compute with the same numbers.
  Map Random(int n, int c, int h, int w, double sigma = 1) {
    Map map(n, c, h, w);
    for (double& value : map.values) value = static_cast<float>(sigma * stream_.NextNormal());
    return map;
  }
  std::vector<double> RandomVector(int count) { return Random(1, count, 1, 1).values; }

  memory::desc Plain(const Map& map) const {
    return {{map.n, map.c, map.h, map.w}, memory::data_type::f32, memory::format_tag::nchw};
  }
  memory::desc Blocked(const Map& map) const {
    return {{map.n, map.c, map.h, map.w}, memory::data_type::f32, memory::format_tag::nChw16c};
  }

  std::vector<float> ToLayout(const Map& map, const memory::desc& desc) {
    std::vector<float> plain(map.values.begin(), map.values.end()), values(desc.get_size() / sizeof(float));
    if (desc.dims().size() == 2) return plain;
    memory from(Plain(map), engine_, plain.data()), to(desc, engine_, values.data());
    dnnl::reorder(from, to).execute(dnnl_stream_, from, to);
    dnnl_stream_.wait();
    return values;
  }
  std::vector<float> FromLayout(std::vector<float> values, const memory::desc& desc, const Map& shape) {
    if (desc.dims().size() == 2) return values;
    std::vector<float> plain(shape.values.size());
    memory from(desc, engine_, values.data()), to(Plain(shape), engine_, plain.data());
    dnnl::reorder(from, to).execute(dnnl_stream_, from, to);
    dnnl_stream_.wait();
    return plain;
  }

  static double Error(std::span<const float> actual, const std::vector<double>& expected) {
    EXPECT_EQ(actual.size(), expected.size());
    double difference = 0, size = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
      size += expected[i] * expected[i];
    }
    EXPECT_GT(size, 0);
    return std::sqrt(difference / size);
  }

  CpuParameterStore MakeStore(const memory::desc& weights, std::vector<int64_t> shape, int channel_block = 1, int64_t area = 1) {
    const int64_t outputs = shape[0];
    std::vector<ParameterInfo> infos = {{.name = "w", .shape = std::move(shape)},
                                        {.name = "b", .shape = {outputs}, .role = ParameterRole::kBias}};
    const memory::desc bias({outputs}, memory::data_type::f32, memory::format_tag::x);
    return {engine_, 2, std::move(infos), {{weights, channel_block, area}, {bias, 1, 1}}};
  }
  static void SetWeights(CpuParameterStore& store, const Map& w, const std::vector<double>& b) {
    const std::vector<float> weights(w.values.begin(), w.values.end()), biases(b.begin(), b.end());
    store.FromCanonical(0, weights, store.weight(0));
    store.FromCanonical(1, biases, store.weight(1));
    store.WeightsChanged();
  }
  static std::vector<float> Gradient(CpuParameterStore& store, int parameter) {
    std::vector<float> values(static_cast<size_t>(store.info(parameter).CanonicalCount()));
    store.ToCanonical(parameter, store.gradient(parameter), values);
    return values;
  }

  struct LayerRun {
    std::vector<float> y, dx, dw, db;
  };
  LayerRun RunLayer(CpuLayer& layer, CpuParameterStore* store, const Map& x, const memory::desc& input, const Map& y_shape,
                    const Map& dy) {
    std::vector<float> in = ToLayout(x, input), out(layer.output().get_size() / sizeof(float)),
                       gradient = ToLayout(dy, layer.output()), in_gradient(in.size());
    HugeBuffer scratchpad(std::max<size_t>(layer.scratchpad_bytes(), 1)), workspace(std::max<size_t>(layer.workspace_bytes(), 1));
    layer.Bind({{in.data()}, out.data(), {in_gradient.data()}, gradient.data(), workspace.data(), scratchpad.data()});
    layer.Forward(dnnl_stream_);
    layer.BackwardData(dnnl_stream_);
    layer.BackwardWeights(dnnl_stream_);
    LayerRun run{FromLayout(out, layer.output(), y_shape), FromLayout(in_gradient, input, x), {}, {}};
    if (store != nullptr) run.dw = Gradient(*store, 0), run.db = Gradient(*store, 1);
    return run;
  }

  struct ConvRun {
    LayerRun run;
    std::vector<std::string> algorithms;
  };
  ConvRun RunConv(const ConvSetup& setup, const Map& x, const Map& w, const std::vector<double>& b, const Map& dy,
                  const memory::desc& native) {
    CpuParameterStore store = MakeStore(native, {w.n, w.c, w.h, w.w});
    SetWeights(store, w, b);
    ConvLayer layer(engine_, store, 0, 1, setup);
    const Map y(setup.shape.batch, setup.shape.out_channels, setup.shape.height, setup.shape.width);
    return {RunLayer(layer, &store, x, setup.input, y, dy), layer.algorithms()};
  }

  ConvSetup Setup(int batch, int in, int out, int side, ConvAlgorithm requested, int kernel = 3) {
    const Map x(batch, in, side, side);
    return {.shape = {batch, in, out, side, side, kernel, 1, kernel / 2},
            .input = in % 16 == 0 ? Blocked(x) : Plain(x),
            .training = true,
            .data_gradient = in % 16 == 0,
            .requested = requested,
            .has_avx512 = HasAvx512()};
  }
  static bool HasAvx512() {
    const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa()),
               wanted = static_cast<unsigned>(dnnl::cpu_isa::avx512_core);
    return (isa & wanted) == wanted;
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream dnnl_stream_{engine_};
  RandomStream stream_{21, RandomPurpose::kSynthetic, 0, 0};
};

}  // namespace plateau
