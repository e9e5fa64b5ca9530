// Labels of validation images in each of the three forms they are distributed in, told apart by their content.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/error.h"
#include "dataset/manifest.h"
#include "dataset/readers/source.h"

namespace plateau {

struct ValLabelFiles {
  std::string labels;  // Caffe's val.txt, the devkit's ILSVRC2012_validation_ground_truth.txt, or Kaggle's LOC_val_solution.csv
  std::string devkit_synsets;  // ground truth only: synset ids in the devkit's own order, one a line
  std::string synsets;         // what the classes come from, for messages
};

// A value. The form is decided by the first line: the header "ImageId,PredictionString" is Kaggle's, a lone number the devkit's,
// anything else must be Caffe's `name label`.
//   Caffe: label = class index, found by the file's name.
//   Devkit: line i is the id (from 1) of the i-th image when names are sorted bytewise; id k is line k of `devkit_synsets`. The ids
//   are in no order that could be inferred, so ground truth without the list is refused.
//   Kaggle: "name without extension,n01440764 x y x y n01440764 ...": all boxes of an image must be of one class.
class ValLabels {
 public:
  // kInvalidInput names file, line, value and remedy.
  static Result<ValLabels> Read(const ValLabelFiles& files, const std::vector<ClassInfo>& classes);
  // Sets the label of every image. An image without a label is an error; `place` is the images' file or folder, for messages.
  Status Apply(const std::string& place, std::vector<SourceImage>& images) const;

 private:
  Status ApplyInOrder(const std::string& place, std::vector<SourceImage>& images) const;

  std::string path_;
  std::unordered_map<std::string, int32_t> by_name_;
  bool extensions_ = true;         // names in by_name_ have theirs
  std::vector<int32_t> in_order_;  // the devkit's form; by_name_ is empty then
};

}  // namespace plateau
