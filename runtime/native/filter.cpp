// Filters between source and window, one pass over the packed events: runtime/firstspike/filters/definition.py says what is
// dropped. What a pixel remembers is a 32-bit time of our own, so that a large sensor's memory stays in the cache.
#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

#include "firstspike.h"

namespace {

// Time within the state: 0 is never, and all else lies so far above it that never is long ago. It starts anew (`rebase`)
// before it reaches 2^31, so that differences fit a signed word.
constexpr int64_t kLimit = int64_t{3} << 29;
constexpr int64_t kMostPeriod = int64_t{1} << 26, kMostBack = int64_t{1} << 24, kMostTime = int64_t{1} << 52;
constexpr int64_t kAhead = 16;        // events
constexpr size_t kNear = 512 * 1024;  // words of four bytes
constexpr int64_t kMostPixels = int64_t{1} << 24;
constexpr uint32_t kDropped = 0xFFFF0000u;  // a place from here on is a reason, FS_FILTER_HOT_PIXEL and so on

using Lanes = int32_t __attribute__((vector_size(16)));

}  // namespace

struct fs_filter {
  int32_t width = 0, height = 0;
  int32_t refractory = 0, background = 0, support = 1;
  bool by_polarity = false;
  int64_t back = 0;    // a jump back by more forgets everything
  int64_t ahead = 0;   // a jump ahead by more does too, by itself: no period is as long
  bool started = false;
  uint64_t floor = 0;  // the largest time seen, less `back`
  uint64_t base = 0;   // what is taken off a time
  std::vector<uint32_t> places;
  std::vector<int32_t> passed;  // (height, width) or (height, width, 2): when an event last passed `refractory`
  std::vector<int32_t> seen;    // (height + 2, stride): when an event last came to `background`; borders are never
  size_t stride = 0;

  bool leap(int64_t t);
  void rebase();
};

// A time that is not within `back` of the largest and `ahead` of it: the first one, a reset of the clock, or a long silence.
bool fs_filter::leap(int64_t t) {
  if (t < -kMostTime || t > kMostTime) return false;
  const uint64_t time = static_cast<uint64_t>(t);
  const uint64_t largest = floor + static_cast<uint64_t>(back) - base;
  // Whatever is remembered must be out of reach of all that may follow, also of what comes late.
  const uint64_t now = started ? largest + static_cast<uint64_t>(ahead) : 2 * static_cast<uint64_t>(ahead);
  started = true;
  base = time - now;
  floor = time - static_cast<uint64_t>(back);
  return true;
}

void fs_filter::rebase() {
  const int64_t largest = static_cast<int64_t>(floor + static_cast<uint64_t>(back) - base);
  const int32_t shift = static_cast<int32_t>(largest - 2 * ahead);
  for (auto *state : {&passed, &seen})
    for (int32_t &then : *state) then = std::max(then - shift, 0);
  base += static_cast<uint64_t>(static_cast<int64_t>(shift));
}

namespace {

// Whether so many of the eight neighbours of the one in the middle were seen within the period. `above` is its upper left.
template <bool kAny>
inline bool supported(const int32_t *above, size_t stride, int32_t now, int32_t period, int support) {
  Lanes row[3];
  for (int i = 0; i < 3; ++i) {
    std::memcpy(&row[i], above + stride * static_cast<size_t>(i), sizeof row[i]);
    const Lanes age = now - row[i];
    row[i] = (age < period) & (age > -period);
  }
  const Lanes around = {-1, -1, -1, 0}, beside = {-1, 0, -1, 0};
  if constexpr (kAny) {
    const Lanes any = ((row[0] | row[2]) & around) | (row[1] & beside);
    uint64_t words[2];
    std::memcpy(words, &any, sizeof words);
    return (words[0] | words[1]) != 0;
  } else {
    const Lanes sum = ((row[0] + row[2]) & around) + (row[1] & beside);
    return -(sum[0] + sum[1] + sum[2]) >= support;
  }
}

// kFar: what the pixels remember is too much for the nearer caches, and is fetched before it is needed.
template <bool kFar, bool kPlaces, int kRefractory, int kBackground>
int64_t run(fs_filter &f, const fs_event *events, int64_t n, fs_event *out, int64_t *counts) {
  const uint32_t width = static_cast<uint32_t>(f.width), height = static_cast<uint32_t>(f.height);
  const uint64_t back = static_cast<uint64_t>(f.back), span = back + static_cast<uint64_t>(f.ahead);
  const uint32_t *places = f.places.data();
  int32_t *passed = f.passed.data(), *seen = f.seen.data();
  const size_t stride = f.stride;
  const int32_t refractory = f.refractory, background = f.background;
  const int support = f.support;
  uint64_t floor = f.floor, base = f.base;
  int64_t kept = 0, resting = 0, unsupported = 0;
  for (int64_t i = 0; i < n; ++i) {
    fs_event event = events[i];
    if constexpr (kFar) {
      const fs_event &soon = events[std::min(i + kAhead, n - 1)];
      if ((soon.x < width) & (soon.y < height)) {
        const size_t at = size_t{soon.y} * width + soon.x;
        if constexpr (kPlaces) __builtin_prefetch(places + at);
        if constexpr (kRefractory != 0) __builtin_prefetch(passed + at * kRefractory);
        if constexpr (kBackground != 0)
          for (size_t row = 0; row < 3; ++row) __builtin_prefetch(seen + (size_t{soon.y} + row) * stride + soon.x);
      }
    }
    const uint64_t t = static_cast<uint64_t>(event.t);
    const uint64_t above = t - floor;
    if (above > span || !f.started) [[unlikely]] {
      f.floor = floor, f.base = base;
      if (!f.leap(event.t)) return -1;
      floor = f.floor, base = f.base;
    } else {
      floor += above > back ? above - back : 0;
    }
    if (t - base > static_cast<uint64_t>(kLimit)) [[unlikely]] {
      f.floor = floor, f.base = base;
      f.rebase();
      base = f.base;
    }
    const int32_t now = static_cast<int32_t>(t - base);
    const uint32_t x = event.x, y = event.y;
    if ((x >= width) | (y >= height)) [[unlikely]] {
      ++counts[FS_FILTER_OUTSIDE];
      continue;
    }
    if constexpr (kPlaces) {
      const uint32_t place = places[y * width + x];
      if (place >= kDropped) {
        ++counts[place - kDropped];
        continue;
      }
      event.x = static_cast<uint16_t>(place);
      event.y = static_cast<uint16_t>(place >> 16);
    }
    // From here on without branches: which events pass is as good as chance.
    bool keep = true;
    if constexpr (kRefractory != 0) {
      size_t at = y * width + x;
      if constexpr (kRefractory == 2) at = 2 * at + (event.p != 0);
      const int32_t then = passed[at], age = now - then;
      keep = !((age < refractory) & (age > -refractory));
      passed[at] = keep ? now : then;
      resting += !keep;
    }
    if constexpr (kBackground != 0) {
      int32_t *const corner = seen + y * stride + x, *const own = corner + stride + 1;
      const bool near = supported<kBackground == 1>(corner, stride, now, background, support);
      *own = keep ? now : *own;
      unsupported += keep & !near;
      keep &= near;
    }
    out[kept] = event;
    kept += keep;
  }
  counts[FS_FILTER_REFRACTORY] += resting;
  counts[FS_FILTER_BACKGROUND] += unsupported;
  f.floor = floor, f.base = base;
  return kept;
}

using Run = int64_t (*)(fs_filter &, const fs_event *, int64_t, fs_event *, int64_t *);

#define FS_ROW(far, places, refractory) \
  {run<far, places, refractory, 0>, run<far, places, refractory, 1>, run<far, places, refractory, 2>}
#define FS_ROWS(far, places) {FS_ROW(far, places, 0), FS_ROW(far, places, 1), FS_ROW(far, places, 2)}
constexpr Run kRuns[2][2][3][3] = {{FS_ROWS(false, false), FS_ROWS(false, true)},
                                   {FS_ROWS(true, false), FS_ROWS(true, true)}};

}  // namespace

extern "C" fs_filter *fs_filter_new(int width, int height, int refractory_us, int by_polarity, int background_us,
                                    int support, int64_t back_us) {
  if (width < 1 || height < 1 || int64_t{width} * height > kMostPixels || refractory_us < 0 ||
      refractory_us > kMostPeriod || background_us < 0 || background_us > kMostPeriod || support < 1 || support > 8 ||
      back_us < 0 || back_us > kMostBack)
    return nullptr;
  auto *filter = new (std::nothrow) fs_filter;
  if (filter == nullptr) return nullptr;
  try {
    filter->width = width, filter->height = height;
    filter->refractory = refractory_us, filter->by_polarity = by_polarity != 0;
    filter->background = background_us, filter->support = support;
    filter->back = back_us;
    filter->ahead = back_us + std::max(refractory_us, background_us) + 1;
    const size_t pixels = static_cast<size_t>(width) * static_cast<size_t>(height);
    if (refractory_us > 0) filter->passed.assign(by_polarity ? 2 * pixels : pixels, 0);
    if (background_us > 0) {
      // A row is read four pixels at a time, from the one before it.
      filter->stride = static_cast<size_t>(width) + 2;
      filter->seen.assign(filter->stride * (static_cast<size_t>(height) + 2) + 2, 0);
    }
    return filter;
  } catch (const std::bad_alloc &) {
    delete filter;
    return nullptr;
  }
}

extern "C" void fs_filter_free(fs_filter *filter) { delete filter; }

extern "C" int fs_filter_places(fs_filter *filter, const uint32_t *places) {
  try {
    filter->places.assign(places, places + static_cast<size_t>(filter->width) * static_cast<size_t>(filter->height));
  } catch (const std::bad_alloc &) {
    return FS_NO_MEMORY;
  }
  for (const uint32_t place : filter->places)
    if (place >= kDropped && place - kDropped >= FS_FILTER_REASONS) {
      filter->places.clear();
      return FS_REFUSED;
    }
  return FS_OK;
}

extern "C" int64_t fs_filter_run(fs_filter *filter, const fs_event *events, int64_t n, fs_event *out,
                                 int64_t counts[FS_FILTER_REASONS]) {
  const int refractory = filter->refractory == 0 ? 0 : filter->by_polarity ? 2 : 1;
  const int background = filter->background == 0 ? 0 : filter->support == 1 ? 1 : 2;
  const size_t size = filter->places.size() + filter->passed.size() + filter->seen.size();
  return kRuns[size > kNear][!filter->places.empty()][refractory][background](*filter, events, n, out, counts);
}
