// The table of AlexNet in one column (Krizhevsky 2014, "One weird trick", and torchvision): the two halves of the 2012 paper are
// joined and its local response normalisation is left out, as in every single-column form. Dropout follows fc6 and fc7.
#include "worker/model/alexnet.h"

#include "worker/model/builder.h"

namespace plateau {

Network MakeAlexNet(const NetworkOptions& options) {
  NetworkBuilder net("alexnet", 227, options);
  net.Convolution("conv1", 64, {.kernel = 11, .stride = 4, .pad = 2});
  net.MaxPool("pool1", {.kernel = 3, .stride = 2});
  net.Convolution("conv2", 192, {.kernel = 5, .pad = 2});
  net.MaxPool("pool2", {.kernel = 3, .stride = 2});
  net.Convolution("conv3", 384, {.kernel = 3, .pad = 1});
  net.Convolution("conv4", 256, {.kernel = 3, .pad = 1});
  net.Convolution("conv5", 256, {.kernel = 3, .pad = 1});
  net.MaxPool("pool5", {.kernel = 3, .stride = 2});
  net.FullyConnected("fc6", 4096, options.dropout);
  net.FullyConnected("fc7", 4096, options.dropout);
  net.Classifier("fc8");
  return net.Take();
}

}  // namespace plateau
