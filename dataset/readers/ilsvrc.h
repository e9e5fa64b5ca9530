// ImageNet as it is distributed: a tar of per-synset tars, a tar of validation images, and their label files.
#pragma once

#include <string>

#include "common/error.h"
#include "dataset/readers/source.h"

namespace plateau {

struct IlsvrcPaths {
  std::string train;       // ILSVRC2012_img_train.tar
  std::string val;         // ILSVRC2012_img_val.tar
  std::string val_labels;  // see ValLabelFiles
  std::string synsets;     // synset_words.txt: the line is the class index
  std::string devkit_synsets;
};

// Reads every tar header (not the images). Source ordinals count in the order of the tars. Errors name file, offset, and what was
// being read: a missing or cut-off tar, a sub-tar whose synset is not listed or comes twice, images without a label.
Result<DataSource> OpenIlsvrc(const IlsvrcPaths& paths);

}  // namespace plateau
