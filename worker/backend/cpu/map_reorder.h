// Copies a map from one layout to another, or a part of a larger map: prepared once, bound with the buffers.
#pragma once

#include <dnnl.hpp>

namespace plateau {

class MapReorder {
 public:
  MapReorder() = default;
  // Both descriptors have the same dimensions; either may describe a part (submemory_desc) of what lies at the bound address.
  MapReorder(const dnnl::engine& engine, const dnnl::memory::desc& from, const dnnl::memory::desc& to)
      : from_(from, engine, DNNL_MEMORY_NONE), to_(to, engine, DNNL_MEMORY_NONE), reorder_(from_, to_) {}
  explicit operator bool() const { return static_cast<bool>(reorder_); }
  void Run(dnnl::stream& stream, const float* from, float* to) {
    from_.set_data_handle(const_cast<float*>(from));
    to_.set_data_handle(to);
    reorder_.execute(stream, from_, to_);
    stream.wait();
  }

 private:
  dnnl::memory from_, to_;
  dnnl::reorder reorder_;
};

}  // namespace plateau
