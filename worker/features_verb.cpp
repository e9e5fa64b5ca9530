// The features verb.
#include "worker/features_verb.h"

#include <omp.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <new>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "dataset/pipeline.h"
#include "worker/compute_flags.h"
#include "worker/flag_ranges.h"
#include "worker/inference.h"
#include "worker/weights_file.h"

namespace plateau {
namespace {

struct FeaturesFlags {
  std::string checkpoint, layer = "fc7", store, split = "val", out;
  ComputeFlags compute;
  int batch = 16, threads = 0;
  uint64_t limit = 0;
  bool json = false;
};

std::string_view Bytes(const auto& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0])};
}

// Appends the features of the first `images` images in source order as they are computed, then labels and ordinals: no more than a batch of
// features is held.
Status Stream(const FeaturesFlags& flags, const StoreReader& store, const Preprocessing& preprocessing, Inference& inference,
              uint64_t images, WritableFile& file) {
  PLATEAU_ASSIGN(const auto pipeline, Pipeline::Start(store, preprocessing,
                                                      {.split = flags.split,
                                                       .training = false,
                                                       .global_batch = inference.batch(),
                                                       .rows = inference.batch(),
                                                       .pixels = inference.takes_pixels()}));
  std::vector<int64_t> labels, ordinals;
  while (labels.size() < images) {
    PLATEAU_ASSIGN(auto batch, pipeline->Next());
    if (batch == nullptr)
      return Fail(ErrorCode::kCorrupt, "{}: split {} ends after {} of {} images; check it with plateau dataset verify", flags.store,
                  flags.split, labels.size(), images);
    const auto real = static_cast<size_t>(std::count(batch->weights.begin(), batch->weights.end(), 1.0F));
    const size_t rows = std::min<size_t>(real, images - labels.size());
    const int count = static_cast<int>(rows);
    PLATEAU_TRY(file.Append(Bytes(inference.takes_pixels() ? inference.Run(batch->pixels, batch->scales, count)
                                                           : inference.Run(batch->images, count))));
    for (size_t row = 0; row < rows; ++row) {
      labels.push_back(batch->labels[row]);
      ordinals.push_back(static_cast<int64_t>(batch->sample_index[row]));
    }
    pipeline->Recycle(std::move(batch));
  }
  PLATEAU_TRY(file.Append(Bytes(labels)));
  return file.Append(Bytes(ordinals));
}

Status RunFeatures(const FeaturesFlags& flags) {
  if (flags.batch < 1) return Fail(ErrorCode::kInvalidInput, "--batch {}: at least 1 is needed", flags.batch);
  PosixFileSystem files;
  PLATEAU_ASSIGN(const auto store, StoreReader::Open(files, flags.store));
  const SplitInfo* split = store->manifest().Split(flags.split);
  if (split == nullptr || split->records == 0)
    return Fail(ErrorCode::kNotFound, "--split {}: {} has no images of that split", flags.split, flags.store);
  PLATEAU_ASSIGN(const TrainedModel model, OpenTrainedModel(files, flags.checkpoint));
  if (model.network.channels != store->manifest().channels)
    return Fail(ErrorCode::kInvalidInput, "{}: its network takes {} channels, images of {} have {}", model.folder,
                model.network.channels, flags.store, store->manifest().channels);
  Preprocessing preprocessing = model.identity.preprocessing;
  preprocessing.scale_low = preprocessing.scale_high = model.identity.validation_scale;
  PLATEAU_ASSIGN(const Compute compute, ChooseCompute(flags.compute));
  PLATEAU_ASSIGN(Inference inference, Inference::Make(files, model, flags.layer, flags.batch,
                                                      flags.threads > 0 ? flags.threads : omp_get_num_procs(), compute));
  const uint64_t images = flags.limit > 0 ? std::min(flags.limit, split->records) : split->records;
  const auto count = static_cast<int64_t>(images);
  const std::vector<TensorLayout> layouts = {{"features", TensorType::kF32, {count, inference.values()}},
                                             {"labels", TensorType::kI64, {count}},
                                             {"ordinals", TensorType::kI64, {count}}};
  const std::string header = SafetensorsHeader(layouts, {{"format", "plateau-features"},
                                                         {"version", "1"},
                                                         {"checkpoint", model.folder},
                                                         {"network", model.network.name},
                                                         {"layer", flags.layer},
                                                         {"store", store->manifest().name},
                                                         {"split", flags.split},
                                                         {"split_checksum", split->checksum},
                                                         {"device", inference.device()},
                                                         {"precision", inference.precision()}});
  PLATEAU_TRY(WriteBeside(files, flags.out, [&](WritableFile& file) -> Status {
    PLATEAU_TRY(file.Append(header));
    return Stream(flags, *store, preprocessing, inference, images, file);
  }));
  if (flags.json)
    fmt::print("{}\n", nlohmann::ordered_json{{"out", flags.out},
                                              {"images", images},
                                              {"values", inference.values()},
                                              {"layer", flags.layer},
                                              {"device", inference.device()},
                                              {"precision", inference.precision()}}
                           .dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  else
    fmt::print("{}: {} values of layer {} for each of {} images, in {} on {}\n", flags.out, inference.values(), flags.layer, images,
               inference.precision(), inference.device());
  return {};
}

}  // namespace

void AddFeaturesVerb(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<FeaturesFlags>();
  CLI::App* verb = app.add_subcommand("features", "Write the outputs of a layer for every image of a store");
  verb->footer(
      "The centre crop of each image goes through the network up to the layer, its ReLU included, without dropout; a layer that gives a\n"
      "map is averaged over its places. Output (safetensors): \"features\" [images, values] float32 in source order, \"labels\" and\n"
      "\"ordinals\" (source ordinals) [images] int64. Rows are written as they are computed.\n"
      "Examples:\n"
      "  plateau features runs/vgg-d-1 --layer fc7 --store flowers --split train --out flowers-fc7.safetensors");
  verb->add_option("checkpoint", flags->checkpoint, "Folder of a checkpoint or of a run")->required();
  verb->add_option("--layer", flags->layer, "Name of a layer, as plateau summary prints it")->capture_default_str();
  verb->add_option("--store", flags->store, "Store with the images")->required();
  verb->add_option("--split", flags->split, "Which of its splits")->capture_default_str();
  verb->add_option("--out", flags->out, "File to write")->required();
  verb->add_option("--limit", flags->limit, "Only the first N images in source order")->check(within::kCount);
  verb->add_option("--batch", flags->batch, "Images of one pass")->check(within::kBatch)->capture_default_str();
  verb->add_option("--threads", flags->threads, "Default: all cores")->check(within::kThreads);
  AddComputeFlags(*verb, flags->compute);
  verb->add_flag("--json", flags->json, "Say as JSON what was written: out, images, values, layer, device, precision");
  verb->callback([flags, &exit_code] {
    Status status;
    try {
      status = RunFeatures(*flags);
    } catch (const Failure& failure) {
      status = Fail(Error{failure.code(), failure.what()});
    } catch (const std::bad_alloc&) {
      status = Fail(ErrorCode::kUnavailable, "not enough memory for passes of {} images; give a smaller --batch", flags->batch);
    }
    if (status) return;
    fmt::print(stderr, "plateau features: {}\n", status.error().message);
    exit_code = ExitCode(status.error().code);
  });
}

}  // namespace plateau
