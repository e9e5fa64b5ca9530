// What a CudaPlan holds besides the arena: a row's or a step's few figures, and the events that time the passes of a host.
#pragma once

#include <vector>

#include "worker/backend/cuda/cuda_plan.h"

namespace plateau::cuda {

// Figures in device memory that the host reads or writes.
struct HostFigures {
  DeviceLoss loss;
  StepScalars scalars;
  int32_t nonfinite = 0;
};
static_assert(sizeof(HostFigures) <= kDeviceFigures);

struct CudaPlan::Small {
  Small(int batch, int classes)
      : at(LayOutRows(batch, classes)),
        device(at.total_bytes),
        host_logits(static_cast<size_t>(batch) * static_cast<size_t>(classes) * sizeof(float)),
        host_figures(sizeof(HostFigures)) {}
  HostFigures* figures() const { return device.as<HostFigures>(at.figures); }  // on the device
  HostFigures& host() const { return *host_figures.as<HostFigures>(); }

  DeviceRowsLayout at;
  DeviceBuffer device;
  PinnedBuffer host_logits, host_figures;
  bool logits_wanted = false;  // those on the host are not the last Forward's yet
};

// Events before and behind the passes of each layer; those of passes that did not run since the last Forward count nothing.
struct CudaPlan::Timing {
  struct Span {
    Event begin{true}, end{true};
    bool ran = false;
    template <typename Pass>
    void Run(cudaStream_t stream, Pass&& pass) {
      begin.Record(stream);
      pass();
      end.Record(stream);
      ran = true;
    }
    double Seconds() const { return ran ? static_cast<double>(end.MillisecondsSince(begin)) / 1000 : 0; }
  };
  struct Layer {
    Span forward, data, weights;
  };
  explicit Timing(size_t layers) : layers(layers), forward_seconds(layers) {}
  void Restart() {
    for (Layer& layer : layers) layer.forward.ran = layer.data.ran = layer.weights.ran = false;
  }
  std::vector<Layer> layers;
  std::vector<double> forward_seconds;
};

}  // namespace plateau::cuda
