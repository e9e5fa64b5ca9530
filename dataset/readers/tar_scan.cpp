// Tar headers by libarchive, over positional reads, so that entries are found again by offset.
#include "dataset/readers/tar_scan.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include <archive.h>
#include <archive_entry.h>

namespace plateau {
namespace {

constexpr uint64_t kBlockBytes = 512;
constexpr size_t kNameBytes = 4096;

// What libarchive reads from: a range of a file.
struct Range {
  const PreadFile* file;
  uint64_t begin, end, position;
  std::array<char, 4096> buffer;  // a header and little more: the data between headers is skipped, not read
  std::optional<Error> error;
};

la_ssize_t ReadRange(archive*, void* data, const void** out) {
  auto& range = *static_cast<Range*>(data);
  const uint64_t wanted = range.position >= range.end ? 0 : std::min<uint64_t>(range.buffer.size(), range.end - range.position);
  auto got = range.file->ReadSome(range.position, range.buffer.data(), wanted);
  if (!got) {
    range.error = got.error();
    return ARCHIVE_FATAL;
  }
  range.position += *got;
  *out = range.buffer.data();
  return static_cast<la_ssize_t>(*got);
}

la_int64_t SkipRange(archive*, void* data, la_int64_t bytes) {
  auto& range = *static_cast<Range*>(data);
  const uint64_t left = range.position >= range.end ? 0 : range.end - range.position;
  const uint64_t skipped = std::min<uint64_t>(left, static_cast<uint64_t>(bytes));
  range.position += skipped;
  return static_cast<la_int64_t>(skipped);
}

const char* ErrorText(archive* tar) {
  const char* text = archive_error_string(tar);
  return text != nullptr ? text : "unknown error";
}

std::string EntryName(archive_entry* entry) {
  const char* name = archive_entry_pathname(entry);
  if (name == nullptr) name = archive_entry_pathname_utf8(entry);
  return name != nullptr ? name : "";
}

Status CheckEndMarker(const Range& range, uint64_t next, const std::string& what, const std::string& last) {
  std::array<char, kBlockBytes> block{};
  PLATEAU_ASSIGN(const uint64_t got,
                 range.file->ReadSome(next, block.data(), next >= range.end ? 0 : std::min(kBlockBytes, range.end - next)));
  if (got == kBlockBytes && std::all_of(block.begin(), block.end(), [](char byte) { return byte == 0; })) return {};
  return Fail(ErrorCode::kInvalidInput,
              "{}: is cut off: it ends at offset {} without the tar's end marker, {}; fetch or copy the file again", what,
              range.end, last.empty() ? "before any entry" : "after " + last);
}

}  // namespace

Status ScanTar(const PreadFile& file, uint64_t begin, uint64_t bytes, const std::string& what,
               const std::function<Status(const TarEntry&)>& visit) {
  Range range{&file, begin, begin + bytes, begin, {}, {}};
  const std::unique_ptr<archive, int (*)(archive*)> tar(archive_read_new(), archive_read_free);
  archive_read_support_format_tar(tar.get());
  archive_read_set_read_callback(tar.get(), ReadRange);
  archive_read_set_skip_callback(tar.get(), SkipRange);
  archive_read_set_callback_data(tar.get(), &range);
  uint64_t next = begin;  // where the next header should stand
  std::string last;
  int answer = archive_read_open1(tar.get());
  archive_entry* header = nullptr;
  while (answer == ARCHIVE_OK || answer == ARCHIVE_WARN) {
    answer = archive_read_next_header(tar.get(), &header);
    if (answer != ARCHIVE_OK && answer != ARCHIVE_WARN) break;
    const TarEntry entry{EntryName(header), begin + static_cast<uint64_t>(archive_filter_bytes(tar.get(), 0)),
                         static_cast<uint64_t>(archive_entry_size(header))};
    const bool stored = archive_entry_filetype(header) == AE_IFREG && archive_entry_hardlink(header) == nullptr;
    if (stored && (entry.offset > range.end || entry.bytes > range.end - entry.offset))
      return Fail(ErrorCode::kInvalidInput,
                  "{}: is cut off: entry {} at offset {} has {} bytes, but the tar ends at offset {}; fetch or copy the file again",
                  what, entry.name, entry.offset, entry.bytes, range.end);
    if (archive_entry_hardlink(header) != nullptr || archive_entry_sparse_count(header) > 0)
      return Fail(ErrorCode::kInvalidInput, "{}: entry {} at offset {} is a link or a sparse file; pack it again with plain files",
                  what, entry.name, next);
    if (entry.name.empty() || entry.name.size() > kNameBytes)
      return Fail(ErrorCode::kInvalidInput, "{}: the entry at offset {} has a name of {} bytes; expected 1 to {}", what, next,
                  entry.name.size(), kNameBytes);
    next = entry.offset + (stored ? (entry.bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes : 0);
    last = entry.name;
    if (stored) PLATEAU_TRY(visit(entry));
  }
  if (range.error) return Fail(*range.error);
  if (answer == ARCHIVE_EOF) return CheckEndMarker(range, next, what, last);
  return Fail(ErrorCode::kInvalidInput,
              "{}: cannot read a tar header at offset {}{}: {}; is it an uncompressed tar, copied in full?", what, next,
              last.empty() ? "" : " (after " + last + ")", ErrorText(tar.get()));
}

std::string BaseName(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

}  // namespace plateau
