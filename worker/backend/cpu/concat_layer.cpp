// Copies between the inputs and their parts of the output.
#include "worker/backend/cpu/concat_layer.h"

#include "worker/backend/cpu/fc_layer.h"

namespace plateau {

ConcatLayer::ConcatLayer(const dnnl::engine& engine, const ConcatSetup& setup) {
  auto dims = setup.inputs[0].dims();
  dims[1] = 0;
  int block = FlatChannelBlock(setup.inputs[0]);
  for (const auto& input : setup.inputs) {
    dims[1] += input.data.dims[1];
    if (FlatChannelBlock(input) != block) block = 1;
  }
  const dnnl::memory::desc plain(dims, dnnl::memory::data_type::f32, dnnl::memory::format_tag::nchw);
  output_ = FlatMap(plain, block > 1 ? block : 1);
  dnnl::memory::dims from(dims.size(), 0);
  for (const auto& input : setup.inputs) {
    const auto part = output_.submemory_desc(input.dims(), from);
    in_.emplace_back(engine, input, part);
    if (setup.training) out_.emplace_back(engine, part, input);
    from[1] += input.data.dims[1];
  }
}

void ConcatLayer::Forward(dnnl::stream& stream) {
  for (size_t i = 0; i < in_.size(); ++i) in_[i].Run(stream, buffers_.inputs[i], buffers_.output);
}

void ConcatLayer::BackwardData(dnnl::stream& stream) {
  for (size_t i = 0; i < out_.size(); ++i) {
    if (buffers_.input_gradients[i] != nullptr) out_[i].Run(stream, buffers_.output_gradient, buffers_.input_gradients[i]);
  }
}

}  // namespace plateau
