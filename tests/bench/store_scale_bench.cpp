// A store of ImageNet's number of records, made of tiny ones: ingest rate, opening, epoch order and memory, beside plain files.
// usage: store_scale_bench FOLDER [TRAIN VAL] [JOBS]    (FOLDER/store and FOLDER/flat are made and removed again)
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include <fmt/format.h>

#include "common/checksum.h"
#include "dataset/ingest.h"
#include "dataset/sampler.h"
#include "dataset/shard_reader.h"

namespace plateau {
namespace {

constexpr int kSide = 16, kClasses = 1000;
constexpr uint64_t kRecordBytes = uint64_t{kSide} * kSide * 3;

[[noreturn]] void Die(const std::string& message) {
  fmt::print(stderr, "store_scale_bench: {}\n", message);
  std::exit(1);
}

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Of all threads of this process, in user and kernel.
double CpuSeconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// What a part took: the clock's time, which other work on the machine stretches, and this process's.
struct Took {
  double wall_s = 0, cpu_s = 0;
  std::string Rate(uint64_t records) const {
    const auto count = static_cast<double>(records);
    return fmt::format("{:.1f} s, {:.0f} records/s; {:.1f} s of CPU time, {:.0f} records/s", wall_s, count / wall_s, cpu_s,
                       count / cpu_s);
  }
};
struct Timer {
  double wall_s = Seconds(), cpu_s = CpuSeconds();
  Took Stop() const { return {Seconds() - wall_s, CpuSeconds() - cpu_s}; }
};

// Resident memory of this process, MiB: "VmRSS" now, "VmHWM" at most so far.
double MemoryMiB(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field)) return std::strtod(line.c_str() + field.size() + 1, nullptr) / 1024;
  return 0;
}

// The pixels of image `ordinal`: a few words of a checksum, repeated, so that making them costs next to nothing.
void MakePixels(uint64_t split, uint64_t ordinal, std::string& out) {
  const uint64_t number[2] = {split, ordinal};
  const uint64_t word = Checksum({reinterpret_cast<const char*>(number), sizeof number});
  out.resize(kRecordBytes);
  for (uint64_t at = 0; at < kRecordBytes; at += sizeof word) {
    const uint64_t value = word + at;
    std::memcpy(out.data() + at, &value, sizeof value);
  }
}

class GeneratedSource final : public ImageSource {
 public:
  GeneratedSource(std::string split, uint64_t number, uint64_t images) : split_(std::move(split)), number_(number) {
    images_.reserve(images);
    for (uint64_t i = 0; i < images; ++i) {
      const auto label = static_cast<int32_t>(number == 0 ? i * kClasses / images : i % kClasses);
      images_.push_back({fmt::format("n{:08}_{}.JPEG", label, i), 0, kRecordBytes, label});
    }
  }
  const std::string& split() const override { return split_; }
  const std::string& place() const override { return split_; }
  const std::vector<SourceImage>& images() const override { return images_; }
  RawShape raw() const override { return {kSide, kSide, 3}; }
  Status Read(uint64_t ordinal, std::string& bytes) const override {
    MakePixels(number_, ordinal, bytes);
    return {};
  }

 private:
  std::string split_;
  uint64_t number_;
  std::vector<SourceImage> images_;
};

DataSource MakeSource(uint64_t train, uint64_t val) {
  DataSource source;
  for (int label = 0; label < kClasses; ++label) source.classes.push_back({fmt::format("n{:08}", label), "generated"});
  source.splits.push_back(std::make_unique<GeneratedSource>("train", 0, train));
  source.splits.push_back(std::make_unique<GeneratedSource>("val", 1, val));
  source.description = "generated";
  return source;
}

// The ceiling of writing: the same bytes in one file, fsynced.
Took WriteFlat(const std::string& path, uint64_t records) {
  const Timer timer;
  PosixFileSystem files;
  auto file = files.Create(path);
  if (!file) Die(file.error().message);
  std::string bytes;
  for (uint64_t i = 0; i < records; ++i) {
    MakePixels(0, i, bytes);
    if (const auto status = (*file)->Append(bytes); !status) Die(status.error().message);
  }
  if (const auto status = (*file)->Sync(); !status) Die(status.error().message);
  return timer.Stop();
}

// The ceiling of reading: one pread a record in the same order.
Took ReadFlat(const std::string& path, const Sampler& sampler, uint64_t records) {
  const int fd = ::open(path.c_str(), O_RDONLY);
  if (fd < 0) Die(path + ": cannot open");
  std::vector<char> buffer(kRecordBytes);
  const Timer timer;
  for (uint64_t i = 0; i < records; ++i)
    if (::pread(fd, buffer.data(), kRecordBytes, static_cast<off_t>(sampler.At(i).dense * kRecordBytes)) != kRecordBytes)
      Die(path + ": cannot read");
  const Took took = timer.Stop();
  ::close(fd);
  return took;
}

// Asks the kernel to forget the store's pages.
void ForgetPages(const std::string& folder) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const int fd = ::open(entry.path().c_str(), O_RDONLY);
    ::fsync(fd);
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }
}

std::unique_ptr<StoreReader> TimeOpen(const std::string& store, const char* what) {
  PosixFileSystem files;
  const double began = Seconds();
  auto reader = StoreReader::Open(files, store);
  if (!reader) Die(reader.error().message);
  fmt::print("open, {:<12}         {:.3f} s\n", what, Seconds() - began);
  return std::move(*reader);
}

// Every position of an epoch once: the order holds each sample once and takes no memory.
void TimeOrder(const Sampler& sampler, uint64_t records) {
  std::vector<bool> seen(records);
  const double before_mib = MemoryMiB("VmRSS");
  const Timer timer;
  uint64_t sum = 0;
  for (uint64_t i = 0; i < records; ++i) sum += sampler.At(i).dense;
  const Took took = timer.Stop();
  const double grown_mib = MemoryMiB("VmRSS") - before_mib;
  for (uint64_t i = 0; i < records; ++i) seen[sampler.At(i).dense] = true;
  if (std::find(seen.begin(), seen.end(), false) != seen.end() || sum != records * (records - 1) / 2)
    Die("the order is no permutation");
  const double seek_began = Seconds();
  const StreamSample far = sampler.At(uint64_t{1'000'000} * records + records / 2);
  fmt::print("epoch order                 {:.0f} ns of CPU time a position, {:+.1f} MiB; position {:.0e} (epoch {}) in {:.1f} us\n",
             took.cpu_s * 1e9 / static_cast<double>(records), grown_mib, 1e6 * static_cast<double>(records), far.epoch,
             (Seconds() - seek_began) * 1e6);
}

// Reads an epoch of train in its order and checks every record.
Took ReadEpoch(const StoreReader& store, const Sampler& sampler, const SplitInfo& split) {
  RecordBuffer buffer;
  std::string right;
  double least_mib = 1e9, most_mib = 0, first_mib = 0;
  const Timer timer;
  for (uint64_t i = 0; i < split.records; ++i) {
    const uint64_t ordinal = SourceOrdinal(split, sampler.At(i).dense);
    if (const auto status = store.Read(split, ordinal, buffer); !status) Die(status.error().message);
    MakePixels(0, ordinal, right);
    if (buffer.record.bytes != right) Die(fmt::format("record {} has other bytes", ordinal));
    if (i % (split.records / 50 + 1) != 0) continue;
    const double mib = MemoryMiB("VmRSS");
    if (i == 0) first_mib = mib;
    least_mib = std::min(least_mib, mib), most_mib = std::max(most_mib, mib);
  }
  const Took took = timer.Stop();
  fmt::print("epoch read, memory          {:.1f} MiB at the first record, {:.1f} to {:.1f} MiB over 50 samples\n", first_mib,
             least_mib, most_mib);
  return took;
}

int Run(const std::string& folder, uint64_t train, uint64_t val, int jobs) {
  const std::string store = folder + "/store", flat = folder + "/flat";
  fmt::print("{} + {} records of {} bytes, {} jobs\n", train, val, kRecordBytes, jobs);
  const double start_mib = MemoryMiB("VmRSS");
  {
    const DataSource source = MakeSource(train, val);
    fmt::print("the source's lists          {:.0f} MiB\n", MemoryMiB("VmRSS") - start_mib);
    PosixFileSystem files;
    const SystemClock clock;
    IngestOptions options;
    options.out = store;
    options.jobs = jobs;
    options.quiet = true;
    const Timer timer;
    const auto report = Ingest(files, clock, source, options);
    if (!report) Die(report.error().message);
    const Took ingest = timer.Stop();
    fmt::print("ingest                      {}\n", ingest.Rate(train + val));
    fmt::print("                            {} + {} shards, at most {:.0f} MiB\n", report->manifest.splits[0].shards.size(),
               report->manifest.splits[1].shards.size(), MemoryMiB("VmHWM"));
    const Took written = WriteFlat(flat, train + val);
    fmt::print("one flat file, fsynced      {}\n", written.Rate(train + val));
    fmt::print("ingest beside the flat file {:.1f} times its time, {:.1f} times its CPU time\n", ingest.wall_s / written.wall_s,
               ingest.cpu_s / written.cpu_s);
  }
  ForgetPages(folder);
  TimeOpen(store, "cold");
  const auto reader = TimeOpen(store, "warm");
  const SplitInfo& split = *reader->manifest().Split("train");
  const Sampler sampler(1, split.records);
  TimeOrder(sampler, split.records);
  for (const bool cold : {true, false}) {
    if (cold) ForgetPages(folder);
    const Took read = ReadEpoch(*reader, sampler, split);
    if (cold) ForgetPages(folder);
    const Took plain = ReadFlat(flat, sampler, split.records);
    fmt::print("epoch read, {}            {}\n", cold ? "cold" : "warm", read.Rate(split.records));
    fmt::print("plain pread, {}           {}\n", cold ? "cold" : "warm", plain.Rate(split.records));
  }
  fmt::print("memory at most              {:.0f} MiB\n", MemoryMiB("VmHWM"));
  std::filesystem::remove_all(store);
  std::filesystem::remove(flat);
  return 0;
}

}  // namespace
}  // namespace plateau

int main(int count, char** arguments) {
  if (count != 2 && count != 4 && count != 5) plateau::Die("usage: store_scale_bench FOLDER [TRAIN VAL] [JOBS]");
  const uint64_t train = count > 3 ? std::strtoull(arguments[2], nullptr, 10) : 1'281'167;
  const uint64_t val = count > 3 ? std::strtoull(arguments[3], nullptr, 10) : 50'000;
  const int jobs = count > 4 ? std::atoi(arguments[4]) : 2;
  if (train < 1 || val < 1 || jobs < 1) plateau::Die("TRAIN, VAL and JOBS are at least 1");
  std::filesystem::create_directories(arguments[1]);
  return plateau::Run(arguments[1], train, val, jobs);
}
