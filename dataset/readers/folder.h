// A folder of class folders.
#pragma once

#include <string>

#include "common/error.h"
#include "dataset/readers/source.h"

namespace plateau {

struct FolderPaths {
  std::string train;  // DIR/<class>/**/<file>
  std::string val;
  std::string synsets;     // optional: order and words of the classes, as in synset_words.txt; empty: class folders in sorted order
  std::string val_labels;  // optional: val is one folder of images, labelled by this file (see ValLabelFiles)
  std::string devkit_synsets;
};

// Every file below a class folder is an image (names that begin with a dot are passed over). Source ordinals count class folders in
// sorted order, then files in sorted order of their path. Errors name the folder: missing, empty, a val class that train has not.
Result<DataSource> OpenFolder(const FolderPaths& paths);

}  // namespace plateau
