// Walks an ELF file's dynamic section.
#include "worker/backend/device/needed_libraries.h"

#include <elf.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>

namespace plateau {
namespace {

// A file's bytes with reads that stay inside.
class Image {
 public:
  explicit Image(std::vector<char> bytes) : bytes_(std::move(bytes)) {}
  template <class T>
  std::optional<T> At(uint64_t offset) const {
    if (offset > bytes_.size() || bytes_.size() - offset < sizeof(T)) return {};
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof(T));
    return value;
  }
  std::optional<std::string> Text(uint64_t offset) const {
    if (offset >= bytes_.size()) return {};
    const auto begin = bytes_.begin() + static_cast<std::ptrdiff_t>(offset), end = std::find(begin, bytes_.end(), '\0');
    if (end == bytes_.end()) return {};
    return std::string(begin, end);
  }

 private:
  std::vector<char> bytes_;
};

// Where the address `address` of the loaded object lies in the file.
std::optional<uint64_t> FileOffset(const Image& image, const Elf64_Ehdr& header, uint64_t address) {
  for (int i = 0; i < header.e_phnum; ++i) {
    const auto segment = image.At<Elf64_Phdr>(header.e_phoff + sizeof(Elf64_Phdr) * static_cast<uint64_t>(i));
    if (!segment) return {};
    if (segment->p_type == PT_LOAD && address >= segment->p_vaddr && address - segment->p_vaddr < segment->p_filesz)
      return segment->p_offset + (address - segment->p_vaddr);
  }
  return {};
}

std::optional<std::vector<std::string>> Read(const Image& image) {
  const auto header = image.At<Elf64_Ehdr>(0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_ident[EI_CLASS] != ELFCLASS64) return {};
  std::vector<uint64_t> names;
  uint64_t strings = 0;
  for (int i = 0; i < header->e_phnum; ++i) {
    const auto segment = image.At<Elf64_Phdr>(header->e_phoff + sizeof(Elf64_Phdr) * static_cast<uint64_t>(i));
    if (!segment) return {};
    if (segment->p_type != PT_DYNAMIC) continue;
    for (uint64_t at = segment->p_offset; at < segment->p_offset + segment->p_filesz; at += sizeof(Elf64_Dyn)) {
      const auto entry = image.At<Elf64_Dyn>(at);
      if (!entry) return {};
      if (entry->d_tag == DT_NULL) break;
      if (entry->d_tag == DT_NEEDED) names.push_back(entry->d_un.d_val);
      if (entry->d_tag == DT_STRTAB) strings = entry->d_un.d_ptr;
    }
  }
  const auto table = FileOffset(image, *header, strings);
  if (!table) return {};
  std::vector<std::string> needed;
  for (const uint64_t name : names) {
    const auto text = image.Text(*table + name);
    if (!text) return {};
    needed.push_back(*text);
  }
  return needed;
}

}  // namespace

Result<std::vector<std::string>> NeededLibraries(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return Fail(ErrorCode::kIo, "{}: cannot be read: {}", path, std::strerror(errno));
  const auto needed = Read(Image({std::istreambuf_iterator<char>(file), {}}));
  if (!needed) return Fail(ErrorCode::kCorrupt, "{}: is no 64-bit shared object, or cut short; install Plateau again", path);
  return *needed;
}

}  // namespace plateau
