// Decoding threads fill the rows of a bounded window of batches; the consumer takes them in order.
#include "dataset/pipeline.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "common/check.h"
#include "dataset/augment.h"
#include "dataset/sampler.h"

namespace plateau {
namespace {

constexpr uint64_t kNoSample = ~uint64_t{0};

// A batch being filled. Rows are handed to threads one at a time, in order.
struct Slot {
  std::unique_ptr<Batch> batch;
  int rows_handed_out = 0;
  int rows_done = 0;
  int error_row = -1;  // the first row that failed
  Error error;
};

// One row to fill; the batch stays where it is until the row is done.
struct RowTask {
  Slot* slot = nullptr;
  Batch* batch = nullptr;
  int row = 0;
};

// What one thread keeps from row to row.
struct Workspace {
  explicit Workspace(const Preprocessing& preprocessing) : augmenter(preprocessing) {}
  Augmenter augmenter;
  RecordBuffer record;
};

class ThreadedPipeline final : public Pipeline {
 public:
  ThreadedPipeline(const StoreReader& store, const SplitInfo& split, const Preprocessing& preprocessing,
                   const PipelineOptions& options)
      : store_(store),
        split_(split),
        preprocessing_(preprocessing),
        options_(options),
        range_(RankRows(options.global_batch, options.rank, options.world_size)),
        sampler_(options.seed, split.records),
        next_to_open_(options.first_batch) {
    for (int i = 0; i < options.threads; ++i) threads_.emplace_back([this] { Work(); });
  }

  ~ThreadedPipeline() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  Result<std::unique_ptr<Batch>> Next() override {
    std::unique_lock lock(mutex_);
    if (window_.empty() && AtEnd()) return std::unique_ptr<Batch>();
    ready_.wait(lock, [this] { return !window_.empty() && IsSettled(window_.front()); });
    Slot& front = window_.front();
    if (front.error_row >= 0) return Fail(front.error);
    std::unique_ptr<Batch> batch = std::move(front.batch);
    window_.pop_front();
    lock.unlock();
    work_.notify_all();
    return batch;
  }

  void Recycle(std::unique_ptr<Batch> batch) override {
    if (batch == nullptr) return;
    const std::lock_guard lock(mutex_);
    spare_.push_back(std::move(batch));
  }

  void Seek(int64_t number) override {
    {
      std::unique_lock lock(mutex_);
      seeking_ = true;
      ready_.wait(lock, [this] { return rows_in_flight_ == 0; });
      for (Slot& slot : window_) spare_.push_back(std::move(slot.batch));
      window_.clear();
      next_to_open_ = number;
      failed_ = seeking_ = false;
    }
    work_.notify_all();
  }

  int64_t batches_per_pass() const override {
    return (static_cast<int64_t>(split_.records) + options_.global_batch - 1) / options_.global_batch;
  }

 private:
  bool AtEnd() const { return !options_.training && next_to_open_ >= batches_per_pass(); }

  // Full, or failed with nothing under way any more.
  bool IsSettled(const Slot& slot) const {
    return slot.rows_done == options_.rows || (slot.error_row >= 0 && slot.rows_done == slot.rows_handed_out);
  }

  void Work() {
    Workspace workspace(preprocessing_);
    std::unique_lock lock(mutex_);
    while (true) {
      std::optional<RowTask> task;
      work_.wait(lock, [&] { return stopping_ || (task = TakeRow()); });
      if (stopping_) return;
      lock.unlock();
      Status filled = Fill(*task, workspace);
      if (options_.progress != nullptr) ++*options_.progress;
      lock.lock();
      Finish(*task, std::move(filled));
    }
  }

  // The next row in order, opening a batch when the window has room. Needs the mutex.
  std::optional<RowTask> TakeRow() {
    if (seeking_ || failed_) return std::nullopt;
    if (window_.empty() || window_.back().rows_handed_out == options_.rows) {
      if (std::ssize(window_) >= options_.queue_batches || AtEnd()) return std::nullopt;
      Slot& slot = window_.emplace_back();
      slot.batch = MakeBatch(next_to_open_++);
    }
    Slot& slot = window_.back();
    ++rows_in_flight_;
    return RowTask{&slot, slot.batch.get(), slot.rows_handed_out++};
  }

  std::unique_ptr<Batch> MakeBatch(int64_t number) {
    std::unique_ptr<Batch> batch;
    if (!spare_.empty()) {
      batch = std::move(spare_.back());
      spare_.pop_back();
    } else {
      batch = std::make_unique<Batch>();
    }
    const auto rows = static_cast<size_t>(options_.rows);
    batch->number = number;
    batch->rows = options_.rows;
    batch->side = preprocessing_.crop;
    batch->images.resize(options_.pixels ? 0 : rows * ImageValues());
    batch->pixels.resize(options_.pixels ? rows * ImageValues() : 0);
    batch->scales.resize(options_.pixels ? rows : 0);
    batch->labels.resize(rows);
    batch->weights.resize(rows);
    batch->sample_index.resize(rows);
    return batch;
  }

  void Finish(const RowTask& task, Status filled) {
    Slot& slot = *task.slot;
    ++slot.rows_done;
    --rows_in_flight_;
    if (!filled && (slot.error_row < 0 || task.row < slot.error_row)) {
      slot.error_row = task.row;
      slot.error = std::move(filled.error());
      failed_ = true;  // rows of later batches may still be under way; no new ones begin
    }
    if (IsSettled(slot) || (seeking_ && rows_in_flight_ == 0)) ready_.notify_all();
  }

  size_t ImageValues() const {
    const auto side = static_cast<size_t>(preprocessing_.crop);
    return static_cast<size_t>(preprocessing_.channels) * side * side;
  }

  // Without the mutex: the row belongs to this thread.
  Status Fill(const RowTask& task, Workspace& workspace) {
    Batch& batch = *task.batch;
    const auto row = static_cast<size_t>(task.row);
    const uint64_t position = static_cast<uint64_t>(batch.number) * static_cast<uint64_t>(options_.global_batch) +
                              static_cast<uint64_t>(range_.first + task.row);
    if (task.row >= range_.size() || (!options_.training && position >= split_.records)) {
      Pad(batch, row);
      return {};
    }
    const StreamSample sample = options_.training ? sampler_.At(position) : StreamSample{0, position};
    const uint64_t ordinal = SourceOrdinal(split_, sample.dense);
    PLATEAU_TRY(store_.Read(split_, ordinal, workspace.record));
    const RecordView& record = workspace.record.record;
    if (const Status rendered = Render(record, sample.epoch, batch, row, workspace.augmenter); !rendered)
      return Fail(rendered.error().code, "record {} of split {} (\"{}\"): {}; check the store with 'plateau dataset verify'",
                  ordinal, split_.name, record.header.source_name, rendered.error().message);
    const size_t classes = store_.manifest().classes.size();
    if (record.header.label < 0 || static_cast<size_t>(record.header.label) >= classes)
      return Fail(ErrorCode::kCorrupt, "record {} of split {} (\"{}\"): label {}, but the store has {} classes; ingest it again",
                  ordinal, split_.name, record.header.source_name, record.header.label, classes);
    batch.labels[row] = record.header.label;
    batch.weights[row] = 1;
    batch.sample_index[row] = ordinal;
    return {};
  }

  Status Render(const RecordView& record, uint64_t epoch, Batch& batch, size_t row, Augmenter& augmenter) const {
    if (!options_.pixels) {
      float* const image = batch.images.data() + row * ImageValues();
      return options_.training ? augmenter.Train(record, options_.seed, epoch, image) : augmenter.Evaluate(record, image);
    }
    uint8_t* const image = batch.pixels.data() + row * ImageValues();
    PixelScale& scale = batch.scales[row];
    return options_.training ? augmenter.Train(record, options_.seed, epoch, image, scale)
                             : augmenter.Evaluate(record, image, scale);
  }

  void Pad(Batch& batch, size_t row) const {
    if (options_.pixels) {
      std::fill_n(batch.pixels.begin() + static_cast<std::ptrdiff_t>(row * ImageValues()), ImageValues(), uint8_t{0});
      batch.scales[row] = {.gain = {0, 0, 0}, .offset = {0, 0, 0}};
    } else {
      std::fill_n(batch.images.begin() + static_cast<std::ptrdiff_t>(row * ImageValues()), ImageValues(), 0.0F);
    }
    batch.labels[row] = 0;
    batch.weights[row] = 0;
    batch.sample_index[row] = kNoSample;
  }

  const StoreReader& store_;
  const SplitInfo& split_;
  const Preprocessing preprocessing_;
  const PipelineOptions options_;
  const RowRange range_;
  const Sampler sampler_;

  std::mutex mutex_;
  std::condition_variable work_;   // a row may be taken, or stop
  std::condition_variable ready_;  // the front batch is settled, or a seek may go on
  std::deque<Slot> window_;        // at most queue_batches, in order; only ends change, so that slots stay where they are
  std::vector<std::unique_ptr<Batch>> spare_;
  int64_t next_to_open_;
  int rows_in_flight_ = 0;
  bool stopping_ = false, seeking_ = false, failed_ = false;
  std::vector<std::thread> threads_;
};

std::string SplitNames(const Manifest& manifest) {
  std::string names;
  for (const SplitInfo& split : manifest.splits) names += (names.empty() ? "" : ", ") + split.name;
  return names.empty() ? "none" : names;
}

}  // namespace

Result<std::unique_ptr<Pipeline>> Pipeline::Start(const StoreReader& store, const Preprocessing& preprocessing,
                                                  const PipelineOptions& options) {
  PLATEAU_CHECK(options.threads >= 1 && options.queue_batches >= 1 && options.global_batch >= 1,
                "{} threads, queue of {}, batch {}", options.threads, options.queue_batches, options.global_batch);
  const Manifest& manifest = store.manifest();
  const SplitInfo* split = manifest.Split(options.split);
  if (split == nullptr)
    return Fail(ErrorCode::kNotFound, "data set {} has no split \"{}\" (it has: {})", manifest.name, options.split,
                SplitNames(manifest));
  if (split->records == 0)
    return Fail(ErrorCode::kInvalidInput, "split {} of data set {} is empty; ingest it with images", split->name, manifest.name);
  if (preprocessing.crop < 1 || preprocessing.crop > preprocessing.scale_low || preprocessing.scale_low > preprocessing.scale_high)
    return Fail(ErrorCode::kInvalidInput,
                "a crop of {} pixels out of images scaled to [{}, {}]: the scale must be at least the crop", preprocessing.crop,
                preprocessing.scale_low, preprocessing.scale_high);
  const int needed = RankRows(options.global_batch, options.rank, options.world_size).size();
  if (options.rows < needed)
    return Fail(ErrorCode::kInternal, "rank {} of {} has {} rows of a batch of {}, but its batches only {}", options.rank,
                options.world_size, needed, options.global_batch, options.rows);
  return std::make_unique<ThreadedPipeline>(store, *split, preprocessing, options);
}

}  // namespace plateau
