// Builds a shard in slot order from a source that is read at random.
#include "dataset/ingest_shard.h"

#include "common/checksum.h"
#include "dataset/ingest_image.h"
#include "dataset/shard_writer.h"

namespace plateau {
namespace {

constexpr uint64_t kReadAhead = 16;  // images announced to the kernel before they are read
constexpr uint64_t kLargestImageBytes = uint64_t{1} << 30;

// The record of one image, or the reason to reject it.
Result<std::string> MakeRecord(ImagePreparer& preparer, const RawShape& raw, const SourceImage& image, uint64_t source_ordinal,
                               std::string_view bytes, bool& converted) {
  PLATEAU_ASSIGN(auto prepared, raw == RawShape{} ? preparer.Prepare(image.name, bytes) : preparer.PrepareRaw(raw, bytes));
  prepared.header.label = image.label;
  prepared.header.source_ordinal = source_ordinal;
  prepared.header.source_name = image.name;
  converted = prepared.converted;
  return EncodeRecord(prepared.header, prepared.bytes);
}

}  // namespace

Result<ShardResult> BuildShard(FileSystem& files, const ShardTask& task, const ImageObserver& observe) {
  PLATEAU_ASSIGN(auto writer, ShardWriter::Create(files, task.building));
  ImagePreparer preparer(task.resize);
  ShardResult result;
  std::string bytes;
  const uint64_t slots = task.layout.Slots(task.shard);
  const auto ordinal_at = [&](uint64_t slot) { return task.layout.SourceOrdinalAt({task.shard, slot}); };
  for (uint64_t slot = 0; slot < std::min(kReadAhead, slots); ++slot) task.source->WillRead(ordinal_at(slot));
  for (uint64_t slot = 0; slot < slots; ++slot) {
    if (slot + kReadAhead < slots) task.source->WillRead(ordinal_at(slot + kReadAhead));
    const uint64_t ordinal = ordinal_at(slot);
    const SourceImage& image = task.source->images()[ordinal];
    bool converted = false;
    Result<std::string> record = std::string();
    if (image.bytes > kLargestImageBytes) {
      record = Fail(ErrorCode::kInvalidInput, "{} bytes, more than the {} that an image may have", image.bytes, kLargestImageBytes);
    } else {
      PLATEAU_TRY(task.source->Read(ordinal, bytes));
      record = MakeRecord(preparer, task.source->raw(), image, ordinal, bytes, converted);
    }
    if (!record) {
      result.rejected.push_back({ordinal, record.error().message});
      result.record_checksums.push_back(0);
      PLATEAU_TRY(observe(&result.rejected.back()));
      continue;
    }
    PLATEAU_TRY(writer->Add(slot, *record));
    result.record_checksums.push_back(Checksum(*record));
    result.converted += converted ? 1 : 0;
    if (task.moments) result.moments.Add(MomentsOf(preparer.image()));
    PLATEAU_TRY(observe(nullptr));
  }
  PLATEAU_ASSIGN(result.info, writer->Finish());
  return result;
}

}  // namespace plateau
