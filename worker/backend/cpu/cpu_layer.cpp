// What the compiled layers share: attributes, and weights and gradients in a pass's own layout.
#include "worker/backend/cpu/cpu_layer.h"

namespace plateau {

dnnl::primitive_attr MakeAttributes(bool relu) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (relu) {
    dnnl::post_ops operations;
    operations.append_eltwise(1.0F, dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
    attributes.set_post_ops(operations);
  }
  return attributes;
}

WeightUse::WeightUse(CpuParameterStore& store, int parameter, const dnnl::memory::desc& wanted) : store_(&store) {
  if (wanted == store.desc(parameter)) {
    memory_ = store.WeightMemory(parameter);
  } else {
    derived_ = store.AddDerived(parameter, wanted);
    memory_ = store.DerivedMemory(derived_);
  }
}

void WeightUse::Refresh(dnnl::stream& stream) {
  if (derived_ >= 0) store_->RefreshDerived(derived_, stream);
}

GradientSink::GradientSink(CpuParameterStore& store, int parameter, const dnnl::engine& engine, const dnnl::memory::desc& made)
    : native_(store.GradientMemory(parameter)) {
  if (made == store.desc(parameter)) {
    memory_ = native_;
    return;
  }
  buffer_ = HugeBuffer(made.get_size());
  memory_ = dnnl::memory(made, engine, buffer_.data());
  reorder_ = dnnl::reorder(memory_, native_);
}

void GradientSink::Finish(dnnl::stream& stream) {
  if (!reorder_) return;
  reorder_.execute(stream, memory_, native_);
  stream.wait();
}

}  // namespace plateau
