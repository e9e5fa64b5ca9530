// What every engine demands of a network beyond shapes that fit.
#pragma once

#include <vector>

#include "common/error.h"
#include "worker/model/network.h"
#include "worker/nn/plan.h"

namespace plateau {

// kUnsupported, naming the layer: inputs that are not earlier layers, a number of them that the kind does not take, a ReLU or
// dropout where the kind has none, images read by a fully connected layer, an output that nobody uses, an auxiliary layer on the main
// path, or heads that do not give logits.
Status RequireRunnable(const Network& network);

// What a plan of `options`, whose InferShapes are `shapes`, cannot do with weights made for images of side `crop`, whose InferShapes
// are `crop_shapes`: kInvalidInput for a fully connected layer of another size or logits that are a map, kUnsupported for training
// a network whose last layer is not fully connected.
Status RequireFit(const Network& network, const PlanOptions& options, const std::vector<LayerShape>& shapes, int crop,
                  const std::vector<LayerShape>& crop_shapes);

// Whether each layer's output depends on a parameter, so that its gradient is wanted.
std::vector<bool> LearningLayers(const Network& network);

}  // namespace plateau
