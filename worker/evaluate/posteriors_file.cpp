// Writes, reads and averages posteriors files.
#include "worker/evaluate/posteriors_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include <unistd.h>

#include "common/check.h"
#include "common/safetensors.h"

namespace plateau {
namespace {

constexpr const char* kFormat = "plateau-posteriors";
constexpr const char* kVersion = "1";
constexpr size_t kPieceFloats = size_t{1} << 20;  // gathered at once
constexpr double kSlack = 1e-3;                   // of a sum of probabilities

template <typename T>
std::string_view Bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::string HeaderText(const PosteriorsHead& head) {
  const auto images = static_cast<int64_t>(head.labels.size());
  const std::vector<TensorLayout> layout = {{"ordinals", TensorType::kI64, {images}},
                                            {"posteriors", TensorType::kF32, {images, head.classes}},
                                            {"labels", TensorType::kI32, {images}}};
  auto metadata = head.metadata;
  metadata["format"] = kFormat;
  metadata["version"] = kVersion;
  return SafetensorsHeader(layout, metadata);
}

// Takes part in every sum, whether or not the file can still be written.
Status GatherInto(WritableFile* file, Collective& collective, const PosteriorsHead& head, const PosteriorsPart& part) {
  const auto classes = static_cast<size_t>(head.classes);
  const size_t rows = head.labels.size(), piece_rows = std::max<size_t>(1, kPieceFloats / classes);
  std::vector<size_t> order(part.images.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return part.images[a] < part.images[b]; });
  std::vector<float> piece;
  Status status;
  size_t next = 0;
  for (size_t first = 0; first < rows; first += piece_rows) {
    const size_t last = std::min(rows, first + piece_rows);
    piece.assign((last - first) * classes, 0.0F);
    for (; next < order.size() && part.images[order[next]] < static_cast<int64_t>(last); ++next)
      std::copy_n(part.values.begin() + static_cast<int64_t>(order[next] * classes), classes,
                  piece.begin() + static_cast<int64_t>((static_cast<size_t>(part.images[order[next]]) - first) * classes));
    collective.AllReduceSum(std::span<float>(piece));
    if (file != nullptr && status) status = file->Append(Bytes(piece));
  }
  return status;
}

Status Finish(FileSystem& files, WritableFile& file, const std::string& temporary, const std::string& path) {
  PLATEAU_TRY(file.Sync());
  PLATEAU_TRY(file.Close());
  PLATEAU_TRY(files.Rename(temporary, path));
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return files.SyncDirectory(folder.empty() ? "." : folder);
}

template <typename T>
Result<std::vector<T>> Copy(const SafetensorsFile& file, const std::string& path, const std::string& name, TensorType type) {
  const auto found = file.tensors().find(name);
  if (found == file.tensors().end()) return Fail(ErrorCode::kInvalidInput, "{}: no tensor '{}': not a posteriors file", path, name);
  if (found->second.type != type)
    return Fail(ErrorCode::kInvalidInput, "{}: tensor '{}' is {}, not {}", path, name, TensorTypeName(found->second.type),
                TensorTypeName(type));
  std::vector<T> values(found->second.bytes.size() / sizeof(T));
  std::memcpy(values.data(), found->second.bytes.data(), values.size() * sizeof(T));
  return values;
}

std::string Field(const std::map<std::string, std::string>& metadata, const std::string& name) {
  const auto found = metadata.find(name);
  return found == metadata.end() ? "" : found->second;
}

Status CheckRows(const Posteriors& p, const std::string& path) {
  const auto classes = static_cast<size_t>(p.head.classes);
  for (size_t row = 0; row < p.head.labels.size(); ++row) {
    if (p.head.labels[row] < 0 || p.head.labels[row] >= p.head.classes)
      return Fail(ErrorCode::kInvalidInput, "{}: row {} has label {} of {} classes", path, row, p.head.labels[row], classes);
    double sum = 0;
    for (size_t c = 0; c < classes; ++c) sum += p.values[row * classes + c];
    const auto begin = p.values.begin() + static_cast<int64_t>(row * classes);
    const bool negative = std::any_of(begin, begin + static_cast<int64_t>(classes), [](float v) { return !(v >= 0); });
    if (negative || !(std::abs(sum - 1) < kSlack))
      return Fail(ErrorCode::kInvalidInput, "{}: row {} (source ordinal {}) of 'posteriors' is no distribution (its sum is {:g})",
                  path, row, p.head.ordinals[row], sum);
  }
  return {};
}

// Empty when `b` describes the same images as `a`.
std::string Difference(const PosteriorsHead& a, const PosteriorsHead& b) {
  if (a.classes != b.classes) return fmt::format("it has {} classes, the first {}", b.classes, a.classes);
  if (a.labels.size() != b.labels.size()) return fmt::format("it has {} images, the first {}", b.labels.size(), a.labels.size());
  const std::string split_a = Field(a.metadata, "split_checksum"), split_b = Field(b.metadata, "split_checksum");
  if (split_a != split_b)
    return fmt::format("it was made on split {} of {} (checksum {}), the first on {} of {} ({})", Field(b.metadata, "split"),
                       Field(b.metadata, "store"), split_b, Field(a.metadata, "split"), Field(a.metadata, "store"), split_a);
  for (size_t row = 0; row < a.labels.size(); ++row) {
    if (a.ordinals[row] != b.ordinals[row])
      return fmt::format("row {} is image {}, in the first {}", row, b.ordinals[row], a.ordinals[row]);
    if (a.labels[row] != b.labels[row])
      return fmt::format("image {} has label {}, in the first {}", a.ordinals[row], b.labels[row], a.labels[row]);
  }
  return "";
}

TestCounts CountAll(const Posteriors& p, bool per_class) {
  TestCounts counts(p.head.classes, per_class);
  const auto classes = static_cast<size_t>(p.head.classes);
  for (size_t row = 0; row < p.head.labels.size(); ++row)
    counts.Add(std::span(p.values).subspan(row * classes, classes), p.head.labels[row]);
  return counts;
}

}  // namespace

Status WritePosteriors(FileSystem& files, Collective& collective, const std::string& path, const PosteriorsHead& head,
                       const PosteriorsPart& part) {
  PLATEAU_CHECK(part.values.size() == part.images.size() * static_cast<size_t>(head.classes), "{} values of {} images",
                part.values.size(), part.images.size());
  const std::string temporary = fmt::format("{}.tmp-{}", path, ::getpid());
  std::unique_ptr<WritableFile> file;
  Status status;
  if (collective.rank() == 0) {
    status = [&]() -> Status {
      PLATEAU_ASSIGN(file, files.Create(temporary));
      PLATEAU_TRY(file->Append(HeaderText(head)));
      return file->Append(Bytes(head.ordinals));
    }();
  }
  const Status gathered = GatherInto(status ? file.get() : nullptr, collective, head, part);
  if (collective.rank() != 0) return {};
  if (status) status = gathered;
  if (status) status = file->Append(Bytes(head.labels));
  if (status) status = Finish(files, *file, temporary, path);
  if (!status) (void)files.Remove(temporary);  // the first error is the one to tell
  return status;
}

Result<Posteriors> ReadPosteriors(FileSystem& files, const std::string& path) {
  PLATEAU_ASSIGN(const SafetensorsFile file, SafetensorsFile::Load(files, path));
  if (Field(file.metadata(), "format") != kFormat)
    return Fail(ErrorCode::kInvalidInput, "{}: not a posteriors file; make one with plateau-worker evaluate --posteriors", path);
  if (Field(file.metadata(), "version") != kVersion)
    return Fail(ErrorCode::kUnsupported, "{}: posteriors of version {}, this build reads {}", path,
                Field(file.metadata(), "version"), kVersion);
  Posteriors posteriors;
  posteriors.head.metadata = file.metadata();
  PLATEAU_ASSIGN(posteriors.head.ordinals, Copy<int64_t>(file, path, "ordinals", TensorType::kI64));
  PLATEAU_ASSIGN(posteriors.values, Copy<float>(file, path, "posteriors", TensorType::kF32));
  PLATEAU_ASSIGN(posteriors.head.labels, Copy<int32_t>(file, path, "labels", TensorType::kI32));
  const auto& shape = file.tensors().at("posteriors").shape;
  const auto images = static_cast<int64_t>(posteriors.head.labels.size());
  if (shape.size() != 2 || shape[0] != images || shape[1] < 1 || std::ssize(posteriors.head.ordinals) != images || images == 0)
    return Fail(ErrorCode::kInvalidInput, "{}: 'posteriors', 'labels' and 'ordinals' do not hold the same images", path);
  posteriors.head.classes = static_cast<int>(shape[1]);
  PLATEAU_TRY(CheckRows(posteriors, path));
  return posteriors;
}

Result<Fusion> FusePosteriors(FileSystem& files, const std::vector<std::string>& paths, bool per_class) {
  PLATEAU_CHECK(!paths.empty(), "nothing to fuse");
  PosteriorsHead head;
  std::vector<double> sums;
  std::vector<FusedPart> parts;
  for (const std::string& path : paths) {
    PLATEAU_ASSIGN(const Posteriors next, ReadPosteriors(files, path));
    if (parts.empty()) {
      head = next.head;
      sums.assign(next.values.size(), 0.0);
    } else if (const std::string why = Difference(head, next.head); !why.empty()) {
      return Fail(ErrorCode::kInvalidInput, "{}: cannot be fused with {}: {}", path, paths[0], why);
    }
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += next.values[i];
    parts.push_back({path, next.head.metadata, CountAll(next, false)});
  }
  Posteriors mean{.head = std::move(head), .values = std::vector<float>(sums.size())};
  for (size_t i = 0; i < sums.size(); ++i) mean.values[i] = static_cast<float>(sums[i] / static_cast<double>(paths.size()));
  std::string names;
  for (const FusedPart& part : parts) names += (names.empty() ? "" : ";") + Field(part.metadata, "checkpoint");
  for (const char* single : {"checkpoint_checksum", "scales", "mode", "flip", "network"}) mean.head.metadata.erase(single);
  mean.head.metadata["checkpoint"] = names;
  TestCounts counts = CountAll(mean, per_class);
  return Fusion{.mean = std::move(mean), .counts = std::move(counts), .parts = std::move(parts)};
}

}  // namespace plateau
