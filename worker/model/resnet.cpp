// Table 1 of "Deep residual learning" (He et al., arXiv 1512.03385), with projections where the shape changes (option B), and the
// stride of a bottleneck in its 3x3 convolution, as torchvision and most of the field have it ("version 1.5").
#include "worker/model/resnet.h"

#include <fmt/format.h>

#include "worker/model/builder.h"

namespace plateau {
namespace {

constexpr int kExpansion = 4;  // channels that leave a bottleneck, in multiples of its 3x3's

// The convolutions of a block's residual path; the last batch norm has no ReLU.
int AddResidual(NetworkBuilder& net, const std::string& front, bool bottleneck, int channels, int stride, int input) {
  if (!bottleneck) {
    net.BareConvolution(front + "conv1", channels, {.kernel = 3, .stride = stride, .pad = 1}, input);
    net.BatchNorm(front + "bn1", true);
    net.BareConvolution(front + "conv2", channels, {.kernel = 3, .pad = 1});
    return net.BatchNorm(front + "bn2", false);
  }
  net.BareConvolution(front + "conv1", channels, {.kernel = 1}, input);
  net.BatchNorm(front + "bn1", true);
  net.BareConvolution(front + "conv2", channels, {.kernel = 3, .stride = stride, .pad = 1});
  net.BatchNorm(front + "bn2", true);
  net.BareConvolution(front + "conv3", channels * kExpansion, {.kernel = 1});
  return net.BatchNorm(front + "bn3", false);
}

}  // namespace

const std::vector<ResNetConfiguration>& ResNetConfigurations() {
  static const std::vector<ResNetConfiguration> table = {{"resnet-18", false, {2, 2, 2, 2}},
                                                         {"resnet-34", false, {3, 4, 6, 3}},
                                                         {"resnet-50", true, {3, 4, 6, 3}},
                                                         {"resnet-101", true, {3, 4, 23, 3}},
                                                         {"resnet-152", true, {3, 8, 36, 3}}};
  return table;
}

Network MakeResNet(const ResNetConfiguration& configuration, const NetworkOptions& options) {
  NetworkBuilder net(configuration.name, 224, options);
  net.BareConvolution("conv1", 64, {.kernel = 7, .stride = 2, .pad = 3});
  net.BatchNorm("bn1", true);
  int input = net.MaxPool("maxpool", {.kernel = 3, .stride = 2, .pad = 1});
  int input_channels = 64;
  for (size_t stage = 0; stage < configuration.blocks.size(); ++stage) {
    const int channels = 64 << stage, output_channels = configuration.bottleneck ? channels * kExpansion : channels;
    for (int block = 0; block < configuration.blocks[stage]; ++block) {
      const std::string front = fmt::format("layer{}.{}.", stage + 1, block);
      const int stride = stage > 0 && block == 0 ? 2 : 1;
      const int residual = AddResidual(net, front, configuration.bottleneck, channels, stride, input);
      int shortcut = input;
      if (stride != 1 || input_channels != output_channels) {
        net.BareConvolution(front + "downsample.0", output_channels, {.kernel = 1, .stride = stride}, input);
        shortcut = net.BatchNorm(front + "downsample.1", false);
      }
      input = net.AddRelu(front + "add", residual, shortcut);
      input_channels = output_channels;
    }
  }
  net.GlobalAveragePool("avgpool", 0, input);
  net.Classifier("fc");
  return net.Take();
}

}  // namespace plateau
