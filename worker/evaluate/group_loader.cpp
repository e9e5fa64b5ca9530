// Decoding threads fill the images of a bounded window of groups; the consumer takes the groups in order.
#include "worker/evaluate/group_loader.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "dataset/test_image.h"

namespace plateau {
namespace {

// A group being filled. Images are handed to threads one at a time, in order.
struct Slot {
  std::unique_ptr<LoadedGroup> loaded;
  size_t handed_out = 0, done = 0;
  std::optional<Error> error;
  size_t images() const { return loaded->group->images.size(); }
};

struct Task {
  Slot* slot = nullptr;
  size_t image = 0;  // of the group
};

class ThreadedLoader final : public GroupLoader {
 public:
  ThreadedLoader(const StoreReader& store, const SplitInfo& split, const Preprocessing& preprocessing, const TestSettings& settings,
                 std::span<const ImageGroup> groups, int threads, bool pixels, std::atomic<int64_t>* progress)
      : store_(store),
        split_(split),
        preprocessing_(preprocessing),
        settings_(settings),
        groups_(groups),
        pixels_(pixels),
        scale_(TestScale(preprocessing)),
        progress_(progress) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
  }

  ~ThreadedLoader() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  Result<std::unique_ptr<LoadedGroup>> Next() override {
    std::unique_lock lock(mutex_);
    if (window_.empty() && next_group_ == groups_.size()) return std::unique_ptr<LoadedGroup>();
    ready_.wait(lock, [this] { return !window_.empty() && window_.front().done == window_.front().images(); });
    if (window_.front().error) return Fail(*window_.front().error);
    std::unique_ptr<LoadedGroup> loaded = std::move(window_.front().loaded);
    window_.pop_front();
    lock.unlock();
    work_.notify_all();
    return loaded;
  }

  void Recycle(std::unique_ptr<LoadedGroup> loaded) override {
    const std::lock_guard lock(mutex_);
    spare_.push_back(std::move(loaded));
  }

 private:
  void Work() {
    TestImage image(preprocessing_);
    RecordBuffer record;
    std::unique_lock lock(mutex_);
    while (true) {
      std::optional<Task> task;
      work_.wait(lock, [&] { return stopping_ || (task = Take()); });
      if (stopping_) return;
      LoadedGroup& loaded = *task->slot->loaded;
      lock.unlock();
      Status filled = Fill(loaded, task->image, image, record);
      if (progress_ != nullptr) ++*progress_;
      lock.lock();
      if (!filled) task->slot->error = std::move(filled.error());
      if (++task->slot->done == task->slot->images()) ready_.notify_all();
    }
  }

  // The next image in order, opening a group when the window has room. Needs the mutex.
  std::optional<Task> Take() {
    if (window_.empty() || window_.back().handed_out == window_.back().images()) {
      if (std::ssize(window_) >= kAhead || next_group_ == groups_.size()) return std::nullopt;
      Slot& slot = window_.emplace_back();
      if (spare_.empty()) {
        slot.loaded = std::make_unique<LoadedGroup>();
      } else {
        slot.loaded = std::move(spare_.back());
        spare_.pop_back();
      }
      slot.loaded->group = &groups_[next_group_++];
      const size_t maps = slot.images() * settings_.scales.size();
      slot.loaded->maps.resize(pixels_ ? 0 : maps);
      slot.loaded->pixels.resize(pixels_ ? maps : 0);
      slot.loaded->scale = scale_;
    }
    Slot& slot = window_.back();
    return Task{&slot, slot.handed_out++};
  }

  // Without the mutex: the image's maps belong to this thread.
  Status Fill(LoadedGroup& loaded, size_t number, TestImage& image, RecordBuffer& buffer) {
    const uint64_t ordinal = SourceOrdinal(split_, static_cast<uint64_t>(loaded.group->images[number]));
    PLATEAU_TRY(store_.Read(split_, ordinal, buffer));
    const RecordHeader& header = buffer.record.header;
    if (const Status decoded = image.Decode(buffer.record); !decoded)
      return Fail(decoded.error().code, "record {} of split {} (\"{}\"): {}; check the store with 'plateau dataset verify'",
                  ordinal, split_.name, header.source_name, decoded.error().message);
    for (size_t s = 0; s < settings_.scales.size(); ++s) {
      const ImageSize scaled = ScaledSize(static_cast<int>(header.width), static_cast<int>(header.height), settings_.scales[s]);
      const Rectangle window = settings_.mode == EvaluationMode::kCenter ? MiddleCrop(scaled, preprocessing_.crop)
                                                                         : Rectangle{0, 0, scaled.width, scaled.height};
      const size_t map = number * settings_.scales.size() + s;
      const auto render = [&](auto& values) {
        values.resize(static_cast<size_t>(preprocessing_.channels) * window.height * window.width);
        image.Render(settings_.scales[s], window, values.data());
      };
      if (pixels_)
        render(loaded.pixels[map]);
      else
        render(loaded.maps[map]);
    }
    return {};
  }

  const StoreReader& store_;
  const SplitInfo& split_;
  const Preprocessing preprocessing_;
  const TestSettings settings_;
  const std::span<const ImageGroup> groups_;
  const bool pixels_;
  const PixelScale scale_;
  std::atomic<int64_t>* progress_;

  std::mutex mutex_;
  std::condition_variable work_;   // an image may be taken, or stop
  std::condition_variable ready_;  // a group is whole
  std::deque<Slot> window_;        // in order; only ends change, so that slots stay where they are
  std::vector<std::unique_ptr<LoadedGroup>> spare_;
  size_t next_group_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<GroupLoader> GroupLoader::Start(const StoreReader& store, const SplitInfo& split,
                                                const Preprocessing& preprocessing, const TestSettings& settings,
                                                std::span<const ImageGroup> groups, int threads, bool pixels,
                                                std::atomic<int64_t>* progress) {
  return std::make_unique<ThreadedLoader>(store, split, preprocessing, settings, groups, threads, pixels, progress);
}

}  // namespace plateau
