// The measured rule.
#include "worker/backend/cpu/conv_rule.h"

namespace plateau {
namespace {

constexpr int kMinChannels = 16;

bool WinogradExists(const ConvShape& shape) {
  return shape.kernel == 3 && shape.stride == 1 && shape.pad == 1 && shape.in_channels >= kMinChannels &&
         shape.in_channels % kMinChannels == 0 && shape.out_channels % kMinChannels == 0;
}

}  // namespace

ConvAlgorithm ChooseConvAlgorithm(const ConvShape& shape, ConvPass, ConvAlgorithm requested, bool has_avx512) {
  if (!has_avx512 || !WinogradExists(shape) || requested == ConvAlgorithm::kDirect) return ConvAlgorithm::kDirect;
  if (requested == ConvAlgorithm::kWinograd) return ConvAlgorithm::kWinograd;
  return shape.height >= 8 && shape.width >= 8 ? ConvAlgorithm::kWinograd : ConvAlgorithm::kDirect;
}

const char* ConvPassName(ConvPass pass) {
  switch (pass) {
    case ConvPass::kForward: return "forward";
    case ConvPass::kBackwardData: return "backward_data";
    case ConvPass::kBackwardWeights: return "backward_weights";
  }
  return "";
}

const char* ConvAlgorithmName(ConvAlgorithm algorithm) {
  switch (algorithm) {
    case ConvAlgorithm::kAuto: return "auto";
    case ConvAlgorithm::kDirect: return "direct";
    case ConvAlgorithm::kWinograd: return "winograd";
  }
  return "";
}

}  // namespace plateau
