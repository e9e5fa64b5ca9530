// Unpacks and checks IDX files.
#include "dataset/readers/idx_file.h"

#include <cerrno>
#include <cstring>
#include <memory>

#include <zlib.h>

namespace plateau {
namespace {

constexpr uint64_t kLargestBytes = 1'000'000'000;
constexpr uint32_t kMagicOfOneDimension = 0x800;  // plus the number of dimensions: 2049 labels, 2051 images

uint32_t BigEndian(const std::string& bytes, size_t offset) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes[offset + i]);
  return value;
}

// A file that zlib unpacks, or passes on when it is no gzip.
class Stream {
 public:
  explicit Stream(const std::string& path) : path_(path), file_(gzopen(path.c_str(), "rb"), gzclose) {}
  bool is_open() const { return file_ != nullptr; }
  // Appends up to `wanted` bytes; fewer only at the end of the file.
  Status Read(uint64_t wanted, std::string& out) {
    const size_t begin = out.size();
    out.resize(begin + wanted);
    size_t filled = begin;
    while (filled < out.size()) {
      const auto piece = static_cast<unsigned>(std::min<size_t>(out.size() - filled, size_t{1} << 20));
      const int got = gzread(file_.get(), out.data() + filled, piece);
      if (got < 0) return Damaged();
      filled += static_cast<size_t>(got);
      if (got < static_cast<int>(piece)) break;
    }
    out.resize(filled);
    int code = Z_OK;
    gzerror(file_.get(), &code);
    return code == Z_OK || code == Z_STREAM_END ? Status{} : Damaged();  // Z_BUF_ERROR: the gzip ends inside its data
  }

 private:
  Status Damaged() {
    int code = Z_OK;
    std::string text = gzerror(file_.get(), &code);
    if (text.starts_with(path_ + ": ")) text.erase(0, path_.size() + 2);
    if (code == Z_ERRNO) return Fail(ErrorCode::kIo, "{}: cannot read: {}", path_, std::strerror(errno));
    return Fail(ErrorCode::kInvalidInput, "{}: the gzip is damaged or cut off ({}); fetch or copy the file again", path_, text);
  }
  std::string path_;
  std::unique_ptr<gzFile_s, int (*)(gzFile)> file_;
};

Status CheckMagic(const std::string& path, uint32_t magic, int dimensions) {
  const uint32_t wanted = kMagicOfOneDimension + static_cast<uint32_t>(dimensions);
  if (magic == wanted) return {};
  const char* hint = magic == 2049   ? ": these are labels; are images and labels mixed up?"
                     : magic == 2051 ? ": these are images; are images and labels mixed up?"
                                     : ": is it an IDX file of unsigned bytes?";
  return Fail(ErrorCode::kInvalidInput, "{}: begins with the magic number {}, expected {} ({}){}", path, magic, wanted,
              dimensions == 1 ? "labels" : "images", hint);
}

}  // namespace

Result<IdxFile> ReadIdx(const std::string& path, int dimensions) {
  Stream stream(path);
  if (!stream.is_open())
    return Fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "{}: cannot open: {}; check the path", path,
                std::strerror(errno));
  IdxFile file;
  file.data = 4 + 4 * static_cast<uint64_t>(dimensions);
  PLATEAU_TRY(stream.Read(file.data, file.bytes));
  if (file.bytes.size() >= 4) PLATEAU_TRY(CheckMagic(path, BigEndian(file.bytes, 0), dimensions));
  if (file.bytes.size() < file.data)
    return Fail(ErrorCode::kInvalidInput, "{}: has {} bytes, fewer than an IDX header of {}", path, file.bytes.size(), file.data);
  uint64_t values = 1;
  for (int i = 0; i < dimensions; ++i) {
    file.sizes.push_back(BigEndian(file.bytes, 4 + 4 * static_cast<size_t>(i)));
    if (file.sizes.back() == 0 || file.sizes.back() > kLargestBytes / values)
      return Fail(ErrorCode::kInvalidInput, "{}: dimension {} of {} has size {}; expected at least 1, and at most {} values in all",
                  path, i + 1, dimensions, file.sizes.back(), kLargestBytes);
    values *= file.sizes.back();
  }
  PLATEAU_TRY(stream.Read(values + 1, file.bytes));  // one more, to see what goes on behind the end
  const uint64_t got = file.bytes.size() - file.data;
  if (got < values)
    return Fail(ErrorCode::kInvalidInput,
                "{}: is cut off: its header promises {} values, it holds {}; fetch or copy the file again", path, values, got);
  if (got > values)
    return Fail(ErrorCode::kInvalidInput, "{}: goes on behind the {} values that its header promises; it was changed or mixed up",
                path, values);
  return file;
}

}  // namespace plateau
