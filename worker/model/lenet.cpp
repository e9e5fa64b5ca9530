// The table of LeNet-5 (LeCun et al. 1998, figure 2) for 28x28 digits: the first convolution pads where the paper's images had a
// border; every second-layer map sees all first-layer maps; ReLU instead of tanh, max pools instead of trained averages, soft-max
// instead of radial basis functions. No dropout.
#include "worker/model/lenet.h"

#include "worker/model/builder.h"

namespace plateau {

Network MakeLeNet(const NetworkOptions& options) {
  NetworkBuilder net("lenet", 28, options);
  net.Convolution("conv1", 6, {.kernel = 5, .pad = 2});
  net.MaxPool("pool1", {.kernel = 2, .stride = 2});
  net.Convolution("conv2", 16, {.kernel = 5});
  net.MaxPool("pool2", {.kernel = 2, .stride = 2});
  net.FullyConnected("fc3", 120, 0);
  net.FullyConnected("fc4", 84, 0);
  net.Classifier("fc5");
  return net.Take();
}

}  // namespace plateau
