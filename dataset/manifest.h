// manifest.json: what a store holds. Written last, atomically; a folder without one is no store. Format: dataset/FORMAT.md.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/file.h"

namespace plateau {

// Moments of the training split's pixels, RGB on the 0..255 scale; every image weighs the same.
struct PixelMoments {
  std::array<double, 3> mean{};                                    // 0..255
  std::array<double, 3> standard_deviation{};                      // 0..255, sqrt of the covariance's diagonal
  std::array<double, 3> covariance_eigenvalues{};                  // of the covariance on the [0,1] scale, largest first
  std::array<std::array<double, 3>, 3> covariance_eigenvectors{};  // [channel][component]: rows R, G, B
};

struct ShardFileInfo {
  std::string name;  // relative to the shard's folder: "000008.sst"
  uint64_t bytes = 0;
  std::string digest;  // XXH3-64 of the file, 16 hexadecimal digits
};

struct ShardInfo {
  std::string folder;  // "train/00000"
  uint64_t records = 0;
  uint64_t bytes = 0;    // of keys and values
  std::string checksum;  // XXH3-64 over keys and values in key order
  std::vector<ShardFileInfo> files;
};

// Where records of a split are: source ordinal o goes to position q = Permutation(store_seed, kStore, split, sources)(o),
// that is shard q % shards.size(), key q / shards.size(). Rejected sources leave a gap.
struct SplitInfo {
  std::string name;                // "train", "val"
  uint64_t sources = 0;            // images the source held, rejected ones included
  uint64_t records = 0;            // stored
  std::vector<uint64_t> rejected;  // source ordinals, ascending
  std::vector<ShardInfo> shards;
  std::string checksum;  // over all shards' records in source order; independent of shards and jobs
};

struct ClassInfo {
  std::string synset;  // "n01698640", or the folder's name
  std::string words;   // "American alligator, Alligator mississipiensis"
};

struct Manifest {
  int format_version = 1;
  std::string name;
  uint64_t store_seed = 0;
  std::string resize = "none";  // "none" | "256" | "512cap"
  int channels = 3;             // that the loader delivers: 3 (RGB), or 1 where every image is raw gray
  std::vector<ClassInfo> classes;
  std::vector<SplitInfo> splits;
  PixelMoments moments;
  std::string created;  // UTC
  std::string source;   // what was ingested, for people

  const SplitInfo* Split(const std::string& name) const;
};

std::string ManifestText(const Manifest& manifest);
// Errors name the file, the field and the remedy (a store without a manifest: ingest again or continue it).
Result<Manifest> LoadManifest(FileSystem& files, const std::string& store);

// Dense sample numbers [0, records) <-> source ordinals [0, sources): the order of the source without the rejected ones.
uint64_t SourceOrdinal(const SplitInfo& split, uint64_t dense);

}  // namespace plateau
