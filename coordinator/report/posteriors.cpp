// Reading and averaging posteriors files.
#include "coordinator/report/posteriors.h"

#include <cmath>
#include <cstring>
#include <numeric>

#include "common/safetensors.h"

namespace plateau {
namespace {

template <typename T>
Result<std::vector<T>> Values(const SafetensorsFile& file, const std::string& path, const char* name, TensorType type, size_t dimensions) {
  const auto found = file.tensors().find(name);
  if (found == file.tensors().end() || found->second.type != type || found->second.shape.size() != dimensions)
    return Fail(ErrorCode::kInvalidInput, "{}: has no tensor {} as an evaluation writes it; give a file made with posteriors: true", path, name);
  std::vector<T> values(found->second.bytes.size() / sizeof(T));
  std::memcpy(values.data(), found->second.bytes.data(), values.size() * sizeof(T));
  return values;
}

constexpr double kSlack = 1e-3;  // of a sum of probabilities

std::string Field(const SafetensorsFile& file, const char* name) {
  const auto found = file.metadata().find(name);
  return found == file.metadata().end() ? "" : found->second;
}

Status CheckFormat(const SafetensorsFile& file, const std::string& path) {
  if (Field(file, "format") != "plateau-posteriors")
    return Fail(ErrorCode::kInvalidInput, "{}: is no posteriors file; give a file made with posteriors: true", path);
  if (const std::string version = Field(file, "version"); version != "1")
    return Fail(ErrorCode::kUnsupported, "{}: holds posteriors of version \"{}\", this build reads 1; use the build that wrote it", path, version);
  return {};
}

// A NaN would not compare with anything, and so count as right.
Status CheckRows(const std::vector<float>& posteriors, const std::vector<int64_t>& ordinals, size_t classes, const std::string& path) {
  for (size_t row = 0; row < ordinals.size(); ++row) {
    double sum = 0;
    bool negative = false;
    for (size_t c = 0; c < classes; ++c) {
      const float value = posteriors[row * classes + c];
      sum += static_cast<double>(value);
      negative = negative || !(value >= 0);
    }
    if (negative || !(std::abs(sum - 1) <= kSlack))
      return Fail(ErrorCode::kInvalidInput, "{}: row {} (source ordinal {}) is no distribution: a value is negative or none, or its sum, {:g}, is "
                                            "not 1; test again", path, row, ordinals[row], sum);
  }
  return {};
}

}  // namespace

int64_t Correctness::Count1() const { return std::accumulate(top1.begin(), top1.end(), int64_t{0}); }
int64_t Correctness::Count5() const { return std::accumulate(top5.begin(), top5.end(), int64_t{0}); }

Status PosteriorMean::Add(FileSystem& files, const std::string& path) {
  PLATEAU_ASSIGN(const SafetensorsFile file, SafetensorsFile::Load(files, path));
  PLATEAU_TRY(CheckFormat(file, path));
  PLATEAU_ASSIGN(const auto posteriors, Values<float>(file, path, "posteriors", TensorType::kF32, 2));
  PLATEAU_ASSIGN(auto labels, Values<int32_t>(file, path, "labels", TensorType::kI32, 1));
  PLATEAU_ASSIGN(auto ordinals, Values<int64_t>(file, path, "ordinals", TensorType::kI64, 1));
  const int64_t classes = file.tensors().at("posteriors").shape[1];
  const std::string split = Field(file, "split_checksum");
  if (labels.size() != ordinals.size() || classes < 1 || posteriors.size() != labels.size() * static_cast<size_t>(classes))
    return Fail(ErrorCode::kInvalidInput, "{}: its posteriors, labels and ordinals are not of the same images", path);
  for (const int32_t label : labels)
    if (label < 0 || label >= classes) return Fail(ErrorCode::kInvalidInput, "{}: label {} is none of {} classes", path, label, classes);
  PLATEAU_TRY(CheckRows(posteriors, ordinals, static_cast<size_t>(classes), path));
  if (files_ == 0) {
    sums_.assign(posteriors.size(), 0);
    labels_ = std::move(labels);
    ordinals_ = std::move(ordinals);
    classes_ = classes;
    split_checksum_ = split;
    first_path_ = path;
  } else if (labels != labels_ || ordinals != ordinals_ || classes != classes_ || split != split_checksum_) {
    return Fail(ErrorCode::kInvalidInput, "{}: is of other images or classes than {}; only tests of one split can be averaged", path, first_path_);
  }
  for (size_t i = 0; i < sums_.size(); ++i) sums_[i] += static_cast<double>(posteriors[i]);
  ++files_;
  return {};
}

Correctness PosteriorMean::Judge() const {
  Correctness out{ordinals_, {}, {}, split_checksum_};
  const auto classes = static_cast<size_t>(classes_);
  for (size_t image = 0; image < labels_.size(); ++image) {
    const auto value = [&](size_t c) { return static_cast<float>(sums_[image * classes + c] / files_); };
    const auto label = static_cast<size_t>(labels_[image]);
    int before = 0;  // classes that are chosen before the label
    for (size_t c = 0; c < classes; ++c)
      before += value(c) > value(label) || (value(c) == value(label) && c < label) ? 1 : 0;
    out.top1.push_back(before < 1 ? 1 : 0);
    out.top5.push_back(before < 5 ? 1 : 0);
  }
  return out;
}

}  // namespace plateau
