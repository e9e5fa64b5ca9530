// What every reader offers to ingest: the images of a split by number, with their labels.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/error.h"
#include "dataset/manifest.h"

namespace plateau {

struct SourceImage {
  std::string name;     // of the file inside the source: "n01698640_1001.JPEG", for a folder "class/file.jpg"
  uint64_t offset = 0;  // in the source's file; 0 where each image is a file of its own
  uint64_t bytes = 0;
  int32_t label = 0;  // index into DataSource::classes
};

// Pixels that are stored as they are: height x width x channels bytes, row-major.
struct RawShape {
  int width = 0, height = 0, channels = 0;
  bool operator==(const RawShape&) const = default;
};

// The images of one split. Immutable after it was opened; all methods are thread-safe.
class ImageSource {
 public:
  virtual ~ImageSource() = default;
  virtual const std::string& split() const = 0;                // "train", "val"
  virtual const std::string& place() const = 0;                // path, for messages
  virtual const std::vector<SourceImage>& images() const = 0;  // [source ordinal]
  // The shape of every image when Read gives raw pixels; all 0 when it gives encoded files.
  virtual RawShape raw() const { return {}; }
  // The bytes of an image, encoded or raw. Blocks on the disk. An error is a failing source, not a bad image.
  virtual Status Read(uint64_t ordinal, std::string& bytes) const = 0;
  // A hint that Read(ordinal) comes soon. Returns at once.
  virtual void WillRead(uint64_t) const {}
};

struct DataSource {
  std::vector<ClassInfo> classes;
  std::vector<std::unique_ptr<ImageSource>> splits;  // train, val
  std::string description;                           // for people: layout and paths
};

}  // namespace plateau
