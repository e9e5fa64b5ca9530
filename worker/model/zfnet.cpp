// The table of ZFNet (Zeiler & Fergus 2013, figure 3) in the wider form that won in 2013 (conv3, 4, 5 of 512, 1024 and 512 maps).
// The paper normalises contrast across maps behind the first two pools; here local response normalisation does, in the form of
// Krizhevsky et al. It has no parameters and no multiply-adds that the accounting counts.
#include "worker/model/zfnet.h"

#include "worker/model/builder.h"

namespace plateau {

Network MakeZfNet(const NetworkOptions& options) {
  NetworkBuilder net("zfnet", 224, options);
  net.Convolution("conv1", 96, {.kernel = 7, .stride = 2, .pad = 1});
  net.MaxPool("pool1", {.kernel = 3, .stride = 2, .ceil_mode = true});
  net.Lrn("lrn1");
  net.Convolution("conv2", 256, {.kernel = 5, .stride = 2});
  net.MaxPool("pool2", {.kernel = 3, .stride = 2, .ceil_mode = true});
  net.Lrn("lrn2");
  net.Convolution("conv3", 512, {.kernel = 3, .pad = 1});
  net.Convolution("conv4", 1024, {.kernel = 3, .pad = 1});
  net.Convolution("conv5", 512, {.kernel = 3, .pad = 1});
  net.MaxPool("pool5", {.kernel = 3, .stride = 2});
  net.FullyConnected("fc6", 4096, options.dropout);
  net.FullyConnected("fc7", 4096, options.dropout);
  net.Classifier("fc8");
  return net.Take();
}

}  // namespace plateau
