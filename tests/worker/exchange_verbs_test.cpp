// export, import, predict and features as a user calls them, on narrow networks; bad files and bad images among good ones.
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <list>

#include <CLI/CLI.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/safetensors.h"
#include "dataset/ingest.h"
#include "dataset/synthesize.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_images.h"
#include "worker/export_verb.h"
#include "worker/features_verb.h"
#include "worker/import_verb.h"
#include "worker/init_verb.h"
#include "worker/predict_verb.h"
#include "worker/train/trained_model.h"
#include "worker/weights_file.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;
using testing::MakeJpeg;
using testing::MakePicture;
using testing::MakePng;

struct Ran {
  int exit_code = 0;
  std::string out, err;
};

Ran RunVerb(const std::string& line) {
  CLI::App app;
  Ran ran;
  AddInitVerb(app, ran.exit_code);
  AddExportVerb(app, ran.exit_code);
  AddImportVerb(app, ran.exit_code);
  AddPredictVerb(app, ran.exit_code);
  AddFeaturesVerb(app, ran.exit_code);
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  try {
    app.parse(line);
  } catch (const CLI::ParseError& error) {
    ran.exit_code = 2;
    ran.err = error.what();
  }
  std::fflush(nullptr);
  ran.out = ::testing::internal::GetCapturedStdout();
  ran.err += ::testing::internal::GetCapturedStderr();
  return ran;
}

class ExchangeVerbs : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return folder_ / name; }
  void Write(const std::string& name, const std::string& bytes) const { std::ofstream(Path(name), std::ios::binary) << bytes; }
  SafetensorsFile Load(const std::string& path) {
    auto file = SafetensorsFile::Load(files_, path);
    EXPECT_TRUE(file.has_value()) << file.error().message;
    return std::move(*file);
  }
  // A checkpoint of fresh weights: `name`.safetensors imported as folder `name`.
  void MakeModel(const std::string& name, const std::string& network, const std::string& names = "torchvision",
                 const std::string& more = "") {
    const auto init = RunVerb(fmt::format("init {} --classes 4 --crop 32 --width 0.02 --seed 5 --names {} --out {}.safetensors",
                                          network, names, Path(name)));
    ASSERT_EQ(init.exit_code, 0) << init.err;
    const auto import = RunVerb(Import(name, network, "--names " + names + " " + more));
    ASSERT_EQ(import.exit_code, 0) << import.err;
  }
  std::string Import(const std::string& name, const std::string& network, const std::string& more = "") const {
    return fmt::format("import {}.safetensors --network {} --width 0.02 --crop 32 --scale 36 --out {} {}", Path(name), network,
                       Path(name), more);
  }
  test::TempFolder folder_;
  PosixFileSystem files_;
};

TEST_F(ExchangeVerbs, WhatWasImportedIsExportedValueByValue) {
  for (const std::string network : {"vgg-a", "vgg-b-bn", "resnet-18"}) {
    const std::string name = network + "-twin";
    MakeModel(name, network);
    const auto ran = RunVerb(fmt::format("export {} --out {}", Path(name), Path("back")));
    ASSERT_EQ(ran.exit_code, 0) << ran.err;
    const auto before = Load(Path(name + ".safetensors")), after = Load(Path("back"));
    size_t counters = 0;
    for (const auto& [tensor, view] : after.tensors()) {
      if (tensor.ends_with(".num_batches_tracked")) {
        ++counters;
        continue;
      }
      ASSERT_TRUE(before.tensors().contains(tensor)) << tensor;
      EXPECT_EQ(view.bytes, before.tensors().at(tensor).bytes) << tensor;
      EXPECT_EQ(view.shape, before.tensors().at(tensor).shape) << tensor;
    }
    EXPECT_EQ(after.tensors().size() - counters, before.tensors().size());
    EXPECT_EQ(counters > 0, network != "vgg-a");
    EXPECT_EQ(after.metadata().at("format"), "pt");
    EXPECT_EQ(after.metadata().at("mean"), "123.675,116.28,103.53");
    // And imports again, counters and all.
    EXPECT_EQ(RunVerb(fmt::format("import {} --network {} --width 0.02 --crop 32 --scale 36 --out {}", Path("back"), network,
                                  Path(name + "-again")))
                  .exit_code,
              0);
  }
}

TEST_F(ExchangeVerbs, NetworksWithoutATwinTravelUnderOurNames) {
  MakeModel("c", "vgg-c", "canonical");
  const auto refused = RunVerb(fmt::format("export {} --out {}", Path("c"), Path("back")));
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("vgg-c has no twin in torchvision"));
  EXPECT_THAT(refused.err, HasSubstr("--names canonical"));
  EXPECT_EQ(RunVerb(fmt::format("export {} --names canonical --out {}", Path("c"), Path("back"))).exit_code, 0);
  EXPECT_TRUE(Load(Path("back")).tensors().contains("conv3_3.weight"));
}

TEST_F(ExchangeVerbs, WhatExportSaysOfPixelsAndClassesIsTakenUnlessToldOtherwise) {
  std::ofstream(Path("words")) << "n01 tench\nn02 shark\nn03 ray\nn04 cock\n";
  MakeModel("own", "vgg-a", "torchvision", "--mean 1.5,2.25,3.1 --standard-deviation 4,5,6.7 --synsets " + Path("words"));
  ASSERT_EQ(RunVerb(fmt::format("export {} --out {}", Path("own"), Path("own.st"))).exit_code, 0);
  const auto taken = RunVerb(fmt::format("import {} --network vgg-a --out {}", Path("own.st"), Path("again")));
  ASSERT_EQ(taken.exit_code, 0) << taken.err;
  const auto told =
      RunVerb(fmt::format("import {} --network vgg-a --scale 40 --mean 7,8,9 --out {}", Path("own.st"), Path("told")));
  ASSERT_EQ(told.exit_code, 0) << told.err;
  const auto own = OpenTrainedModel(files_, Path("own"))->identity, again = OpenTrainedModel(files_, Path("again"))->identity,
             changed = OpenTrainedModel(files_, Path("told"))->identity;
  EXPECT_EQ(again.preprocessing.mean, own.preprocessing.mean);
  EXPECT_EQ(again.preprocessing.standard_deviation, own.preprocessing.standard_deviation);
  EXPECT_EQ(again.preprocessing.crop, 32);
  EXPECT_EQ(again.validation_scale, 36);
  ASSERT_EQ(again.classes.size(), 4u);
  EXPECT_EQ(again.classes[1].words, "shark");
  EXPECT_EQ(changed.preprocessing.mean[2], 9);
  EXPECT_EQ(changed.preprocessing.standard_deviation, own.preprocessing.standard_deviation);
  EXPECT_EQ(changed.validation_scale, 40);
  const auto lost = RunVerb(fmt::format("import {} --network vgg-a --mean nan,0,0 --out {}", Path("own.st"), Path("nan")));
  EXPECT_EQ(lost.exit_code, 2);
  EXPECT_THAT(lost.err, HasSubstr("--mean"));
}

TEST_F(ExchangeVerbs, ANegativeVarianceIsRefused) {
  MakeModel("bn", "vgg-a-bn");
  const auto file = Load(Path("bn.safetensors"));
  std::vector<NamedTensor> tensors;
  std::string bytes;
  for (const auto& [name, view] : file.tensors()) {
    tensors.push_back({name, view});
    if (!name.ends_with("running_var") || !bytes.empty()) continue;
    const float minus = -5;
    bytes = std::string(view.bytes);
    std::memcpy(bytes.data(), &minus, sizeof minus);
    tensors.back().tensor.bytes = bytes;
  }
  ASSERT_TRUE(WriteSafetensorsFile(files_, Path("bad.safetensors"), tensors, {}));
  const auto ran = RunVerb(Import("bad", "vgg-a-bn"));
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_THAT(ran.err, HasSubstr("variance of -5"));
}

TEST_F(ExchangeVerbs, HalfAndDoublePrecisionAreImported) {
  ASSERT_EQ(RunVerb("init vgg-a --classes 4 --crop 32 --width 0.02 --names torchvision --out " + Path("full")).exit_code, 0);
  const auto full = Load(Path("full"));
  for (const auto& [type, suffix] : {std::pair(TensorType::kBF16, "bf16"), std::pair(TensorType::kF64, "f64")}) {
    std::vector<NamedTensor> tensors;
    std::list<std::string> bodies;
    for (const auto& [name, view] : full.tensors()) {
      std::string& body = bodies.emplace_back();
      for (size_t at = 0; at < view.bytes.size(); at += 4) {
        float value;
        std::memcpy(&value, view.bytes.data() + at, 4);
        const double wide = value;
        if (type == TensorType::kBF16)
          body += view.bytes.substr(at + 2, 2);
        else
          body.append(reinterpret_cast<const char*>(&wide), 8);
      }
      tensors.push_back({name, {type, view.shape, body}});
    }
    auto file = *files_.Create(Path(suffix + std::string(".safetensors")));
    ASSERT_TRUE(WriteSafetensors(*file, tensors, {}).has_value());
    ASSERT_TRUE(file->Close().has_value());
    const auto ran = RunVerb(Import(suffix, "vgg-a"));
    ASSERT_EQ(ran.exit_code, 0) << ran.err;
    const auto model = OpenTrainedModel(files_, Path(suffix));
    ASSERT_TRUE(model.has_value()) << model.error().message;
    const auto ours = model->weights.tensors().at("conv1_1.weight").bytes, right = full.tensors().at("features.0.weight").bytes;
    for (size_t at = 0; at < right.size(); at += 4) {
      float a, b;
      std::memcpy(&a, ours.data() + at, 4);
      std::memcpy(&b, right.data() + at, 4);
      EXPECT_NEAR(a, b, type == TensorType::kF64 ? 0 : std::abs(b) / 128);
    }
  }
}

TEST_F(ExchangeVerbs, WeightsThatDoNotFitAreRefusedWithTheRemedy) {
  MakeModel("a", "vgg-a");
  const auto error = [&](const std::string& file, const std::string& arguments) {
    const auto ran = RunVerb(fmt::format("import {} --out {} {}", Path(file), Path("never"), arguments));
    EXPECT_NE(ran.exit_code, 0) << arguments;
    EXPECT_FALSE(std::filesystem::exists(Path("never"))) << arguments;
    return ran.err;
  };
  const std::string size = " --width 0.02 --crop 32 --scale 36";
  EXPECT_THAT(error("a.safetensors", "--network vgg-d" + size), HasSubstr("the file looks like vgg-a"));
  EXPECT_THAT(error("a.safetensors", "--network vgg-a --names canonical" + size), HasSubstr("with --names torchvision"));
  EXPECT_THAT(error("a.safetensors", "--network vgg-a"), HasSubstr("features.0.weight is F32 [16,3,3,3], expected [64,3,3,3]"));
  EXPECT_THAT(error("a.safetensors", "--network vgg-a --width 0.02 --crop 64 --scale 64"), HasSubstr("classifier.0.weight"));
  EXPECT_THAT(error("a.safetensors", "--network lenet" + size), HasSubstr("lenet has no twin"));
  EXPECT_THAT(error("a.safetensors", "--network vgg-a --crop 32 --scale 20"), HasSubstr("--scale 20"));
  EXPECT_THAT(error("a.safetensors", "--network vgg-a --mean 1,2" + size), HasSubstr("three numbers"));
  EXPECT_THAT(error("none", "--network vgg-a" + size), HasSubstr(Path("none")));
  EXPECT_THAT(RunVerb(Import("a", "vgg-a")).err, HasSubstr("is there already"));

  // A tensor too many, a NaN, offsets that lie.
  const auto file = Load(Path("a.safetensors"));
  const auto changed = [&](const std::string& name, const auto& change) {
    std::vector<NamedTensor> tensors;
    for (const auto& [tensor, view] : file.tensors()) tensors.push_back({tensor, view});
    change(tensors);
    auto out = *files_.Create(Path(name));
    EXPECT_TRUE(WriteSafetensors(*out, tensors, {}).has_value() && out->Close().has_value());
  };
  const std::vector<float> two{1, 2};
  changed("extra", [&](auto& tensors) {
    tensors.push_back({"features.99.weight", {TensorType::kF32, {2}, {reinterpret_cast<const char*>(two.data()), 8}}});
  });
  EXPECT_THAT(error("extra", "--network vgg-a" + size), HasSubstr("tensor features.99.weight is none of vgg-a"));
  std::string poisoned(file.tensors().at("features.3.bias").bytes);
  const float nan = std::nanf("");
  std::memcpy(poisoned.data() + 8, &nan, 4);
  changed("nan", [&](auto& tensors) {
    for (NamedTensor& one : tensors)
      if (one.name == "features.3.bias") one.tensor.bytes = poisoned;
  });
  const std::string why = error("nan", "--network vgg-a" + size);
  EXPECT_THAT(why, HasSubstr("tensor features.3.bias holds nan at position 2"));
  EXPECT_EQ(RunVerb(fmt::format("import {} --network vgg-a --width 0.02 --crop 32 --scale 36 --out {}", Path("nan"), Path("never")))
                .exit_code,
            3);
  Write("liar", std::string("\x40\0\0\0\0\0\0\0", 8) + R"({"features.0.weight":{"dtype":"F32","shape":[9],"data_offsets":[0,9]}})");
  EXPECT_THAT(error("liar", "--network vgg-a"), HasSubstr("liar: not a valid safetensors file"));
}

TEST_F(ExchangeVerbs, PredictNamesTheLikeliestClassesInOrder) {
  Write("words", "n01 apple, red fruit\nn02 pear\nn03 plum\nn04 quince\n");
  MakeModel("a", "vgg-a", "torchvision", "--synsets " + Path("words"));
  Write("one.jpg", MakeJpeg(MakePicture(50, 40, 1)));
  Write("two.png", MakePng(MakePicture(40, 60, 2)));
  const auto ran = RunVerb(fmt::format("predict {} {} {} --json --threads 1", Path("a"), Path("one.jpg"), Path("two.png")));
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const auto list = nlohmann::json::parse(ran.out);
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0]["image"], Path("one.jpg"));
  EXPECT_THAT(list[1]["device"].get<std::string>(), ::testing::StartsWith("cpu ("));
  EXPECT_EQ(list[1]["precision"], "fp32");
  const std::vector<std::string> words{"apple, red fruit", "pear", "plum", "quince"};
  for (const auto& image : list) {
    double sum = 0, before = 1;
    ASSERT_EQ(image["classes"].size(), 4u);
    for (const auto& one : image["classes"]) {
      const double p = one["probability"];
      EXPECT_LE(p, before);
      before = p;
      sum += p;
      EXPECT_EQ(one["words"], words[one["class"].get<size_t>()]);
    }
    EXPECT_NEAR(sum, 1, 1e-12);
  }
  // Alone and in a batch an image is the same.
  const auto alone =
      nlohmann::json::parse(RunVerb(fmt::format("predict {} {} --json --threads 1", Path("a"), Path("two.png"))).out);
  EXPECT_NEAR(alone[0]["classes"][0]["probability"], list[1]["classes"][0]["probability"].get<double>(), 1e-6);
  const auto text = RunVerb(fmt::format("predict {} {} --top 2", Path("a"), Path("one.jpg")));
  EXPECT_THAT(text.out, HasSubstr(Path("one.jpg") + "\n  "));
  EXPECT_EQ(std::count(text.out.begin(), text.out.end(), '\n'), 3);
  EXPECT_THAT(text.err, HasSubstr("in fp32 on cpu ("));
}

TEST_F(ExchangeVerbs, BadImagesAreNamedAndTheOthersPredicted) {
  MakeModel("a", "vgg-a");
  const std::string good = MakeJpeg(MakePicture(50, 40, 1));
  Write("good.jpg", good);
  Write("dot.png", MakePng(MakePicture(1, 1)));
  Write("long.png", MakePng(MakePicture(30000, 2)));
  Write("deep.png", MakePng(std::vector<uint8_t>(size_t{6} * 20 * 20, 0x40), 20, 20, PNG_COLOR_TYPE_RGB, 16));
  Write("cut.jpg", good.substr(0, good.size() / 2));
  Write("gif.png", "GIF89a and more bytes");
  Write("empty.jpg", "");
  std::string huge = MakePng(MakePicture(2, 2));
  for (const size_t at : {16U, 20U}) huge.replace(at, 4, std::string("\0\0\x75\x30", 4));  // 30,000 x 30,000
  Write("huge.png", huge);
  std::string line = "predict " + Path("a") + " --json";
  const std::vector<std::pair<std::string, std::string>> images = {
      {"dot.png", ""},        {"cut.jpg", "cut.jpg: "}, {"long.png", ""},      {"gif.png", "not a JPEG or PNG"}, {"good.jpg", ""},
      {"empty.jpg", "empty"}, {"deep.png", ""},         {"huge.png", "30000"}, {"none.jpg", "none.jpg"}};
  for (const auto& [name, error] : images) line += " " + Path(name);
  const auto ran = RunVerb(line);
  EXPECT_EQ(ran.exit_code, 2);
  const auto list = nlohmann::json::parse(ran.out);
  ASSERT_EQ(list.size(), images.size());
  for (size_t i = 0; i < images.size(); ++i) {
    EXPECT_EQ(list[i]["image"], Path(images[i].first));
    if (images[i].second.empty()) {
      EXPECT_EQ(list[i].value("classes", nlohmann::json::array()).size(), 4u) << list[i].dump();
    } else {
      EXPECT_THAT(list[i].value("error", ""), HasSubstr(images[i].second)) << list[i].dump();
      EXPECT_THAT(ran.err, HasSubstr(Path(images[i].first)));
    }
  }
}

// An animated PNG shows its first frame: acTL and fcTL chunks are let pass, fdAT frames are not looked at.
TEST_F(ExchangeVerbs, AnAnimatedPngIsItsFirstFrame) {
  MakeModel("a", "vgg-a");
  const std::string still = MakePng(MakePicture(40, 40, 3));
  const auto chunk = [](const std::string& name, const std::string& body) {
    std::string out(4, '\0'), typed = name + body;
    for (int i = 0; i < 4; ++i) out[static_cast<size_t>(i)] = static_cast<char>(body.size() >> (24 - 8 * i));
    uint32_t crc = 0xFFFFFFFFU;
    for (const char byte : typed) {
      crc ^= static_cast<uint8_t>(byte);
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xEDB88320U & (0U - (crc & 1U)));
    }
    crc = ~crc;
    out += typed;
    for (int i = 0; i < 4; ++i) out += static_cast<char>(crc >> (24 - 8 * i));
    return out;
  };
  const size_t behind_header = 8 + 25, end = still.size() - 12;
  const std::string control = std::string("\0\0\0\2\0\0\0\0", 8);
  const std::string frame = std::string("\0\0\0\0\0\0\0\x28\0\0\0\x28\0\0\0\0\0\0\0\0\0\1\0\x0A\0\0", 26);
  Write("still.png", still);
  Write("moving.png", still.substr(0, behind_header) + chunk("acTL", control) + chunk("fcTL", frame) +
                          still.substr(behind_header, end - behind_header) + chunk("fdAT", std::string(16, '\1')) +
                          still.substr(end));
  const auto ran = RunVerb(fmt::format("predict {} {} {} --json", Path("a"), Path("still.png"), Path("moving.png")));
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const auto list = nlohmann::json::parse(ran.out);
  EXPECT_EQ(list[0]["classes"], list[1]["classes"]);
}

TEST_F(ExchangeVerbs, FeaturesAreTheLayersOutputsWithLabels) {
  MakeModel("a", "vgg-a");
  const auto source = OpenSynthetic({.classes = 4, .train = 12, .val = 10, .side = 40});
  ASSERT_TRUE(source.has_value());
  ASSERT_TRUE(Ingest(files_, SystemClock(), *source, {.out = Path("store"), .quiet = true}).has_value());
  const auto features = [&](const std::string& layer, const std::string& more = "") {
    const auto ran = RunVerb(
        fmt::format("features {} --layer {} --store {} --out {} --threads 1 {}", Path("a"), layer, Path("store"), Path("f"), more));
    EXPECT_EQ(ran.exit_code, 0) << ran.err;
    return Load(Path("f"));
  };
  const auto fc7 = features("fc7");
  EXPECT_EQ(fc7.tensors().at("features").shape, (std::vector<int64_t>{10, 80}));
  EXPECT_EQ(fc7.tensors().at("labels").shape, std::vector<int64_t>{10});
  EXPECT_EQ(fc7.metadata().at("layer"), "fc7");
  EXPECT_EQ(fc7.metadata().at("precision"), "fp32");
  EXPECT_THAT(fc7.metadata().at("device"), ::testing::StartsWith("cpu ("));
  // fc8 applied to fc7's outputs gives fc8's.
  const std::vector<int64_t> shape{10, 80}, logits_shape{10, 4}, weight_shape{4, 80}, bias_shape{4};
  const auto fc8 = features("fc8", "--batch 3");
  const auto x = *fc7.Floats("features", shape), y = *fc8.Floats("features", logits_shape);
  const auto model = OpenTrainedModel(files_, Path("a"));
  ASSERT_TRUE(model.has_value());
  const auto w = *model->weights.Floats("fc8.weight", weight_shape), b = *model->weights.Floats("fc8.bias", bias_shape);
  float largest = 0;
  for (size_t n = 0; n < 10; ++n)
    for (size_t k = 0; k < 4; ++k) {
      double sum = b[k];
      for (size_t i = 0; i < 80; ++i) sum += double{x[n * 80 + i]} * w[k * 80 + i];
      EXPECT_NEAR(y[n * 4 + k], sum, 1e-4);
      largest = std::max(largest, std::abs(y[n * 4 + k]));
    }
  EXPECT_GT(largest, 1e-3F);
  EXPECT_EQ(*std::min_element(x.begin(), x.end()), 0) << "fc7 has a ReLU";
  EXPECT_EQ(features("conv3_2").tensors().at("features").shape, (std::vector<int64_t>{10, 16}));
  EXPECT_EQ(features("fc7", "--split train --limit 5").tensors().at("features").shape, (std::vector<int64_t>{5, 80}));
  const auto said = nlohmann::json::parse(
      RunVerb(fmt::format("features {} --layer fc7 --store {} --out {} --threads 1 --json", Path("a"), Path("store"), Path("f")))
          .out);
  EXPECT_EQ(said["images"], 10);
  EXPECT_EQ(said["values"], 80);
  EXPECT_EQ(said["precision"], "fp32");
  EXPECT_EQ(said["device"], fc7.metadata().at("device"));
  const auto unknown = RunVerb(fmt::format("features {} --layer fc9 --store {} --out {}", Path("a"), Path("store"), Path("f")));
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("did you mean fc"));
}

TEST_F(ExchangeVerbs, FeaturesOfADamagedStoreLeaveNoFile) {
  MakeModel("a", "vgg-a");
  const auto source = OpenSynthetic({.classes = 4, .train = 12, .val = 40, .side = 40});
  ASSERT_TRUE(source.has_value());
  ASSERT_TRUE(Ingest(files_, SystemClock(), *source, {.out = Path("store"), .quiet = true}).has_value());
  const std::string line = fmt::format("features {} --store {} --batch 2 --threads 1 --out ", Path("a"), Path("store"));
  std::filesystem::create_directory(Path("out"));
  const auto nowhere = RunVerb(line + Path("out") + "/absent/f");
  EXPECT_EQ(nowhere.exit_code, 2);
  EXPECT_THAT(nowhere.err, HasSubstr("/absent/f"));
  std::filesystem::path table;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(Path("store")))
    if (entry.path().extension() == ".sst" && entry.path().string().find("val") != std::string::npos) table = entry.path();
  ASSERT_FALSE(table.empty());
  std::fstream file(table, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<int64_t>(std::filesystem::file_size(table) / 2));  // among the records
  file << std::string(256, '\xA5');
  file.close();
  const auto damaged = RunVerb(line + Path("out") + "/f");
  EXPECT_EQ(damaged.exit_code, 1) << damaged.err;
  EXPECT_NE(damaged.err, "");
  EXPECT_TRUE(std::filesystem::is_empty(Path("out"))) << "half a file, or a temporary, was left";
}

TEST_F(ExchangeVerbs, ADamagedCheckpointIsNamed) {
  MakeModel("a", "vgg-a");
  Write("good.jpg", MakeJpeg(MakePicture(50, 40, 1)));
  const std::string step = Path("a") + "/attempt-1/step-000000000";
  EXPECT_EQ(RunVerb(fmt::format("predict {} {}", step, Path("good.jpg"))).exit_code, 0);
  std::fstream file(step + "/model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(5000);
  file.put('\x55');
  file.close();
  const auto ran = RunVerb(fmt::format("predict {} {}", Path("a"), Path("good.jpg")));
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_THAT(ran.err, HasSubstr("model.safetensors: checksum is"));
  EXPECT_THAT(RunVerb(fmt::format("predict {} {}", Path("nowhere"), Path("good.jpg"))).err,
              HasSubstr("there is no such checkpoint"));
}

}  // namespace
}  // namespace plateau
