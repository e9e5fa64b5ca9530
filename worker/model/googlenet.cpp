// Table 1 of "Going deeper with convolutions" (Szegedy et al., arXiv 1409.4842). Local response normalisation stands where the
// paper's figure 3 has it, in the form of Krizhevsky et al., since the paper gives no other; the last pool takes the whole map,
// 7x7 at 224. Two auxiliary classifiers hang behind 4a and 4d (section 5).
#include "worker/model/googlenet.h"

#include "worker/model/builder.h"

namespace plateau {
namespace {

constexpr double kAuxiliaryWeight = 0.3, kAuxiliaryDropout = 0.7, kDropout = 0.4;

// A row of the table: channels of each branch.
struct Inception {
  const char* name;
  int one, three_reduce, three, five_reduce, five, pool_projection;
};

constexpr Inception kTable[] = {{"3a", 64, 96, 128, 16, 32, 32},     {"3b", 128, 128, 192, 32, 96, 64},
                                {"4a", 192, 96, 208, 16, 48, 64},    {"4b", 160, 112, 224, 24, 64, 64},
                                {"4c", 128, 128, 256, 24, 64, 64},   {"4d", 112, 144, 288, 32, 64, 64},
                                {"4e", 256, 160, 320, 32, 128, 128}, {"5a", 256, 160, 320, 32, 128, 128},
                                {"5b", 384, 192, 384, 48, 128, 128}};

// Reads layer `input`; returns the concatenation.
int AddInception(NetworkBuilder& net, const Inception& row, int input) {
  const std::string front = std::string("inception_") + row.name + "/";
  const int one = net.Convolution(front + "1x1", row.one, {.kernel = 1}, input);
  net.Convolution(front + "3x3_reduce", row.three_reduce, {.kernel = 1}, input);
  const int three = net.Convolution(front + "3x3", row.three, {.kernel = 3, .pad = 1});
  net.Convolution(front + "5x5_reduce", row.five_reduce, {.kernel = 1}, input);
  const int five = net.Convolution(front + "5x5", row.five, {.kernel = 5, .pad = 2});
  net.MaxPool(front + "pool", {.kernel = 3, .stride = 1, .pad = 1}, input);
  const int pooled = net.Convolution(front + "pool_proj", row.pool_projection, {.kernel = 1});
  return net.Concat(front + "output", {one, three, five, pooled});
}

// Reads the last layer.
void AddAuxiliary(NetworkBuilder& net, int number) {
  const std::string front = "loss" + std::to_string(number) + "/";
  net.Auxiliary(number);
  net.AveragePool(front + "ave_pool", {.kernel = 5, .stride = 3});
  net.Convolution(front + "conv", 128, {.kernel = 1});
  net.FullyConnected(front + "fc", 1024, net.ScaledDropout(kAuxiliaryDropout));
  net.AddHead(net.Classifier(front + "classifier"), kAuxiliaryWeight);
  net.Auxiliary(0);
}

}  // namespace

Network MakeGoogLeNet(const NetworkOptions& options) {
  NetworkBuilder net("googlenet", 224, options);
  const Window halve{.kernel = 3, .stride = 2, .ceil_mode = true};
  net.Convolution("conv1/7x7_s2", 64, {.kernel = 7, .stride = 2, .pad = 3});
  net.MaxPool("pool1/3x3_s2", halve);
  net.Lrn("pool1/norm1");
  net.Convolution("conv2/3x3_reduce", 64, {.kernel = 1});
  net.Convolution("conv2/3x3", 192, {.kernel = 3, .pad = 1});
  net.Lrn("conv2/norm2");
  net.MaxPool("pool2/3x3_s2", halve);
  int main_path = net.last();
  for (const Inception& row : kTable) {
    const std::string name = row.name;
    main_path = AddInception(net, row, main_path);
    if (name == "3b" || name == "4e") main_path = net.MaxPool("pool" + name.substr(0, 1) + "/3x3_s2", halve);
    if (name == "4a") AddAuxiliary(net, 1);
    if (name == "4d") AddAuxiliary(net, 2);
  }
  net.GlobalAveragePool("pool5/7x7_s1", net.ScaledDropout(kDropout), main_path);
  net.Classifier("loss3/classifier");
  return net.Take();
}

}  // namespace plateau
