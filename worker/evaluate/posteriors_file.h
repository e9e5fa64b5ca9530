// The posteriors of a test on disk, and the mean of several models'. Format: worker/EVALUATE.md.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/file.h"
#include "worker/collective/collective.h"
#include "worker/evaluate/counts.h"

namespace plateau {

// One row an image, in ascending order of source ordinals.
struct PosteriorsHead {
  int classes = 0;
  std::vector<int32_t> labels;
  std::vector<int64_t> ordinals;                // source ordinals in the split
  std::map<std::string, std::string> metadata;  // "checkpoint", "split_checksum", ...; format and version are added
};

// Posteriors of some of the images, on the rank that computed them.
struct PosteriorsPart {
  std::vector<int64_t> images;  // row numbers
  std::vector<float> values;    // [images, classes]
};

// Collective: gathers the ranks' parts, which together hold every row once, piece by piece; rank 0 writes `path` beside and
// renames. `head` is alike on every rank. The error is rank 0's, the other ranks succeed.
Status WritePosteriors(FileSystem& files, Collective& collective, const std::string& path, const PosteriorsHead& head,
                       const PosteriorsPart& part);

struct Posteriors {
  PosteriorsHead head;
  std::vector<float> values;  // [images, classes]
};
// Errors name path and tensor: no posteriors file, another version, a value that is not in [0, 1].
Result<Posteriors> ReadPosteriors(FileSystem& files, const std::string& path);

// One of several fused files, alone.
struct FusedPart {
  std::string path;
  std::map<std::string, std::string> metadata;
  TestCounts counts;
};
struct Fusion {
  Posteriors mean;  // rounded to float32 once; its metadata names the parts
  TestCounts counts;
  std::vector<FusedPart> parts;
};
// The mean of the files' posteriors. kInvalidInput names the first file whose classes, ordinals, labels or split differ from the
// first file's, and in what.
Result<Fusion> FusePosteriors(FileSystem& files, const std::vector<std::string>& paths, bool per_class);

}  // namespace plateau
