// Foreign safetensors files: other number formats, and files whose header does not tell the truth.
#include "common/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

namespace plateau {
namespace {

using ::testing::HasSubstr;

std::string File(const std::string& header, const std::string& body) {
  std::string front(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(front.data(), &length, 8);
  return front + header + body;
}

template <typename T>
std::string Bytes(std::initializer_list<T> values) {
  return {reinterpret_cast<const char*>(std::data(values)), values.size() * sizeof(T)};
}

std::string One(const std::string& type, const std::string& shape, size_t begin, size_t end) {
  return fmt::format(R"({{"w":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}}}})", type, shape, begin, end);
}

std::string ErrorOf(const std::string& bytes) {
  const auto file = SafetensorsFile::Parse(bytes, "w.safetensors");
  return file ? std::string("accepted") : file.error().message;
}

std::vector<float> Converted(const std::string& type, const std::string& body, int64_t count) {
  const auto file = SafetensorsFile::Parse(File(One(type, fmt::format("[{}]", count), 0, body.size()), body), "w.safetensors");
  EXPECT_TRUE(file.has_value()) << file.error().message;
  const auto values = file->ConvertedFloats("w", std::vector<int64_t>{count});
  EXPECT_TRUE(values.has_value()) << values.error().message;
  return *values;
}

TEST(Safetensors, EveryFloatingFormatIsConverted) {
  const std::vector<float> right{1, -2.5F, 0, 65504, 0x1p-24F, -0x1.8p-15F};
  EXPECT_EQ(Converted("F32", Bytes<float>({1, -2.5F, 0, 65504, 0x1p-24F, -0x1.8p-15F}), 6), right);
  EXPECT_EQ(Converted("F64", Bytes<double>({1, -2.5, 0, 65504, 0x1p-24, -0x1.8p-15}), 6), right);
  EXPECT_EQ(Converted("F16", Bytes<uint16_t>({0x3C00, 0xC100, 0, 0x7BFF, 1, 0x8300}), 6), right);
  EXPECT_EQ(Converted("BF16", Bytes<uint16_t>({0x3F80, 0xC020, 0, 0x4780}), 4), (std::vector<float>{1, -2.5F, 0, 65536}));
}

TEST(Safetensors, AnOddlyPlacedTensorIsConvertedAndNotReadInPlace) {
  const std::string header =
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})";
  const auto file = SafetensorsFile::Parse(File(header, "x" + Bytes<float>({3.5F})), "w.safetensors");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  const std::vector<int64_t> shape{1};
  EXPECT_EQ(*file->ConvertedFloats("w", shape), std::vector<float>{3.5F});
  const bool aligned = reinterpret_cast<uintptr_t>(file->tensors().at("w").bytes.data()) % alignof(float) == 0;
  const auto in_place = file->Floats("w", shape);
  EXPECT_EQ(in_place.has_value(), aligned);
  EXPECT_THAT(file->ConvertedFloats("a", shape).error().message, HasSubstr("tensor a is U8"));
}

TEST(Safetensors, ValuesThatAreNotFiniteAreNamed) {
  for (const auto& [type, body] : {std::pair("F32", Bytes<float>({1, std::nanf("")})), std::pair("F16", Bytes<uint16_t>({0x3C00, 0x7C00})),
                                   std::pair("BF16", Bytes<uint16_t>({0, 0x7FC0})), std::pair("F64", Bytes<double>({1, 1e300}))}) {
    const auto file = SafetensorsFile::Parse(File(One(type, "[2]", 0, body.size()), body), "w.safetensors");
    ASSERT_TRUE(file.has_value()) << file.error().message;
    const auto values = file->ConvertedFloats("w", std::vector<int64_t>{2});
    ASSERT_FALSE(values.has_value()) << type;
    EXPECT_EQ(values.error().code, ErrorCode::kNumeric);
    EXPECT_THAT(values.error().message, HasSubstr("w.safetensors: tensor w holds"));
    EXPECT_THAT(values.error().message, HasSubstr("at position 1"));
  }
}

TEST(Safetensors, LyingOffsetsAreRefusedWithTensorAndOffsets) {
  const std::string body = Bytes<float>({1, 2, 3, 4});
  EXPECT_THAT(ErrorOf(File(One("F32", "[4]", 0, 17), body)), HasSubstr("tensor w of F32 [4] needs 16 bytes and claims bytes 0 to 17 of the 16"));
  EXPECT_THAT(ErrorOf(File(One("F32", "[4]", 16, 0), body)), HasSubstr("claims bytes 16 to 0"));
  EXPECT_THAT(ErrorOf(File(One("F32", "[3]", 0, 16), body)), HasSubstr("needs 12 bytes"));
  EXPECT_THAT(ErrorOf(File(One("F32", "[2]", 8, 16), body)), HasSubstr("tensor w begins at byte 8"));
  EXPECT_THAT(ErrorOf(File(One("F32", "[2]", 0, 8), body)), HasSubstr("its tensors end at byte 8 behind the header, the file at 16"));
  EXPECT_THAT(ErrorOf(File(One("F32", "[-4]", 0, 16), body)), HasSubstr("impossible shape [-4]"));
  EXPECT_THAT(ErrorOf(File(One("F32", "[4294967296,4294967296]", 0, 0), "")), HasSubstr("impossible shape"));
  EXPECT_THAT(ErrorOf(File(One("F8", "[4]", 0, 4), "abcd")), HasSubstr("tensor w has dtype F8"));
  const std::string overlapping =
      R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})";
  EXPECT_THAT(ErrorOf(File(overlapping, body)), HasSubstr("tensor b begins at byte 8 behind the header, the one before it ends at 12"));
  EXPECT_THAT(ErrorOf(File(R"({"w":{"dtype":"F32"}})", body)), HasSubstr("tensor w"));
  EXPECT_THAT(ErrorOf(File("[]", body)), HasSubstr("not a JSON object"));
  std::string liar = File(One("F32", "[4]", 0, 16), body);
  liar[7] = 0x7F;
  EXPECT_THAT(ErrorOf(liar), HasSubstr("the header length at offset 0"));
  EXPECT_THAT(ErrorOf("abc"), HasSubstr("3 bytes"));
}

TEST(Safetensors, NumbersThatAreNotWholeAreRefusedWithTensorAndField) {
  const auto with = [](const std::string& shape, const std::string& offsets) {
    return ErrorOf(File(fmt::format(R"({{"w":{{"dtype":"F32","shape":{},"data_offsets":{}}}}})", shape, offsets), Bytes<float>({1, 2})));
  };
  EXPECT_EQ(with("[2]", "[0, 8]"), "accepted");
  for (const char* shape : {"[2.7]", "[2.0]", "[1e300]", "[18446744073709551615]", "[true]", "[\"2\"]", "2", "null"})
    EXPECT_THAT(with(shape, "[0, 8]"), HasSubstr("tensor w has the impossible shape ")) << shape;
  for (const char* offsets : {"[0.5, 8.9]", "[0, 8.0]", "[-1, 8]", "[0, 1e300]", "{\"0\": 0}"})
    EXPECT_THAT(with("[2]", offsets), HasSubstr("tensor w has the impossible data_offsets ")) << offsets;
  EXPECT_THAT(with("[2]", "[0, 8, 16]"), HasSubstr("tensor w has 3 data_offsets"));
  EXPECT_THAT(with("[2]", "[0]"), HasSubstr("tensor w has 1 data_offsets"));
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::string whole = File(One("F32", "[4]", 0, 16), Bytes<float>({1, 2, 3, 4}));
  EXPECT_EQ(ErrorOf(whole), "accepted");
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) EXPECT_NE(ErrorOf(whole.substr(0, bytes)), "accepted") << bytes;
}

}  // namespace
}  // namespace plateau
