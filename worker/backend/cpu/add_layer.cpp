// Sums maps with the elementwise loops.
#include "worker/backend/cpu/add_layer.h"

#include "worker/backend/cpu/elementwise.h"

namespace plateau {

AddLayer::AddLayer(const dnnl::engine& engine, const AddSetup& setup) : setup_(setup), map_bytes_(setup.inputs[0].get_size()) {
  for (const auto& input : setup.inputs) {
    const bool differs = input != output();
    in_.push_back(differs ? MapReorder(engine, input, output()) : MapReorder());
    reordered_ += differs ? 1 : 0;
    if (setup.training) back_.emplace_back(engine, output(), input);
  }
}

void AddLayer::Bind(const LayerBuffers& buffers) {
  buffers_ = buffers;
  terms_.clear();
  auto* spare = static_cast<char*>(buffers.scratchpad);
  for (size_t i = 0; i < in_.size(); ++i) {
    terms_.push_back(in_[i] ? reinterpret_cast<float*>(spare) : buffers.inputs[i]);
    if (in_[i]) spare += map_bytes_;
  }
}

void AddLayer::Forward(dnnl::stream& stream) {
  for (size_t i = 0; i < in_.size(); ++i) {
    if (in_[i]) in_[i].Run(stream, buffers_.inputs[i], const_cast<float*>(terms_[i]));
  }
  AddMaps(terms_, buffers_.output, map_bytes_ / sizeof(float), setup_.relu, setup_.threads);
}

void AddLayer::BackwardData(dnnl::stream& stream) {
  for (size_t i = 0; i < back_.size(); ++i) {
    if (buffers_.input_gradients[i] != nullptr) back_[i].Run(stream, buffers_.output_gradient, buffers_.input_gradients[i]);
  }
}

}  // namespace plateau
