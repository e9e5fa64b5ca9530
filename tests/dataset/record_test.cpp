// Records: the byte layout of FORMAT.md, and refusal of everything else.
#include "dataset/record.h"

#include <gtest/gtest.h>

namespace plateau {
namespace {

RecordHeader Example() {
  RecordHeader header;
  header.encoding = Encoding::kPng;
  header.channels = 1;
  header.label = 0x01020304;
  header.width = 500;
  header.height = 375;
  header.source_ordinal = 0x1122334455667788;
  header.source_name = "a.JPEG";
  return header;
}

TEST(Record, KeyOrderIsNumberOrder) {
  EXPECT_EQ(RecordKey(0x0102030405060708), std::string("\1\2\3\4\5\6\7\10"));
  EXPECT_LT(RecordKey(255), RecordKey(256));
  EXPECT_LT(RecordKey(0), RecordKey(1));
}

TEST(Record, BytesAreThoseOfTheFormatPage) {
  const std::string expected(
      "\x01\x02\x01\x00"                  // version, encoding, channels, reserved
      "\x04\x03\x02\x01"                  // label
      "\xf4\x01\x00\x00\x77\x01\x00\x00"  // width, height
      "\x88\x77\x66\x55\x44\x33\x22\x11"  // source ordinal
      "\x03\x00\x00\x00\x06\x00\x00\x00"  // image bytes, name bytes, reserved
      "a.JPEGxyz",
      41);
  EXPECT_EQ(EncodeRecord(Example(), "xyz"), expected);
}

TEST(Record, DecodesWhatItEncodes) {
  for (const std::string& bytes : {std::string(), std::string("\0\1\2", 3), std::string(100000, 'x')}) {
    const std::string value = EncodeRecord(Example(), bytes);
    const auto record = DecodeRecord(value);
    ASSERT_TRUE(record) << record.error().message;
    EXPECT_EQ(record->bytes, bytes);
    EXPECT_EQ(record->header.encoding, Encoding::kPng);
    EXPECT_EQ(record->header.channels, 1);
    EXPECT_EQ(record->header.label, 0x01020304);
    EXPECT_EQ(record->header.width, 500u);
    EXPECT_EQ(record->header.height, 375u);
    EXPECT_EQ(record->header.source_ordinal, 0x1122334455667788u);
    EXPECT_EQ(record->header.source_name, "a.JPEG");
  }
}

TEST(Record, EveryCutIsRefused) {
  const std::string value = EncodeRecord(Example(), "xyz");
  for (size_t bytes = 0; bytes < value.size(); ++bytes) EXPECT_FALSE(DecodeRecord(value.substr(0, bytes))) << bytes;
  EXPECT_FALSE(DecodeRecord(value + "!"));
}

TEST(Record, RefusalNamesTheField) {
  const auto message_after = [](size_t offset, char byte) {
    std::string value = EncodeRecord(Example(), "xyz");
    value[offset] = byte;
    const auto record = DecodeRecord(value);
    return record ? "accepted" : record.error().message;
  };
  EXPECT_NE(message_after(0, 2).find("version 2"), std::string::npos);
  EXPECT_NE(message_after(1, 9).find("`encoding` is 9"), std::string::npos);
  EXPECT_NE(message_after(2, 4).find("`channels` is 4"), std::string::npos);
  EXPECT_NE(message_after(3, 1).find("reserved"), std::string::npos);
  EXPECT_NE(message_after(24, 4).find("image 4"), std::string::npos);
}

TEST(Record, NamesAreSalvagedFromRawBytes) {
  RecordHeader header = Example();
  header.source_ordinal = 5;
  header.source_name = "five";
  std::string bytes = "\1\1\1\1" + EncodeRecord(header, "image") + "\1";
  header.source_ordinal = 6;
  header.source_name = "six";
  bytes += EncodeRecord(header, "image").substr(0, 39);  // cut
  std::map<uint64_t, std::string> names{{5, ""}, {6, ""}, {7, ""}};
  SalvageNames(bytes, names);
  EXPECT_EQ(names, (std::map<uint64_t, std::string>{{5, "five"}, {6, ""}, {7, ""}}));
}

}  // namespace
}  // namespace plateau
