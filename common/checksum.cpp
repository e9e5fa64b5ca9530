// XXH3 through libxxhash.
#include "common/checksum.h"

#include <fmt/format.h>
#include <xxhash.h>

#include "common/check.h"

namespace plateau {

uint64_t Checksum(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

std::string ChecksumText(uint64_t checksum) { return fmt::format("{:016x}", checksum); }

struct ChecksumStream::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

ChecksumStream::ChecksumStream() : state_(std::make_unique<State>()) {
  PLATEAU_CHECK(state_->xxh != nullptr, "out of memory");
  XXH3_64bits_reset(state_->xxh);
}

ChecksumStream::~ChecksumStream() = default;

void ChecksumStream::Add(const void* data, size_t bytes) { XXH3_64bits_update(state_->xxh, data, bytes); }

uint64_t ChecksumStream::Value() const { return XXH3_64bits_digest(state_->xxh); }

}  // namespace plateau
