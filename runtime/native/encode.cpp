// Events to spike times: runtime/firstspike/encode.py holds the definition. One pass over the packed events that touches
// only tensors of the model's size.
#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

#include "firstspike.h"

struct fs_encoder {
  bool first = false;
  bool identity = false;  // sensor and model are one grid
  int channels = 0, height = 0, width = 0, steps = 0, count_scale = 0;
  int sensor_width = 0, sensor_height = 0;
  std::vector<int32_t> columns, rows;  // place in the model, rows times width; -1: cropped
  // While count_scale <= steps every count has a time of its own, so the times themselves can count: next[s] is the time
  // after one event more. Otherwise `counts`, cleared after each window, and code[count].
  std::vector<uint8_t> next, code;
  std::vector<uint16_t> counts;

  int64_t size() const { return int64_t{channels} * height * width; }
};

namespace {

// Calls update(index, t) for each event that falls onto the model, and fills counts.
template <bool Identity, typename Update>
inline void for_each(const fs_encoder &encoder, const fs_event *events, int64_t n, int64_t *counts, Update update) {
  const unsigned sensor_width = static_cast<unsigned>(encoder.sensor_width);
  const unsigned sensor_height = static_cast<unsigned>(encoder.sensor_height);
  const int32_t *columns = encoder.columns.data(), *rows = encoder.rows.data();
  const int32_t width = encoder.width;
  const int32_t plane = encoder.channels == 2 ? encoder.height * encoder.width : 0;
  int64_t outside = 0, cropped = 0;
  for (int64_t i = 0; i < n; ++i) {
    fs_event event;
    std::memcpy(&event, events + i, sizeof event);
    if (event.x >= sensor_width || event.y >= sensor_height) [[unlikely]] {
      ++outside;
      continue;
    }
    int32_t index;
    if constexpr (Identity) {
      index = event.y * width + event.x;
    } else {
      const int32_t column = columns[event.x], row = rows[event.y];
      if ((column | row) < 0) {
        ++cropped;
        continue;
      }
      index = row + column;
    }
    update(index + (event.p != 0 ? plane : 0), event.t);
  }
  counts[0] = n - outside - cropped;
  counts[1] = outside;
  counts[2] = cropped;
}

template <bool Identity>
inline void count(fs_encoder &encoder, const fs_event *events, int64_t n, uint8_t *times, int64_t *counts) {
  if (!encoder.next.empty()) {
    std::memset(times, encoder.steps, static_cast<size_t>(encoder.size()));
    const uint8_t *next = encoder.next.data();
    for_each<Identity>(encoder, events, n, counts, [=](int32_t i, int64_t) { times[i] = next[times[i]]; });
    return;
  }
  uint16_t *count = encoder.counts.data();
  const uint16_t most = static_cast<uint16_t>(encoder.count_scale);
  for_each<Identity>(encoder, events, n, counts,
                     [=](int32_t i, int64_t) { count[i] = static_cast<uint16_t>(count[i] + (count[i] < most)); });
  const uint8_t *code = encoder.code.data();
  constexpr int64_t kBlock = 32;
  const int64_t size = encoder.size();
  for (int64_t block = 0; block < size; block += kBlock) {
    const int64_t end = std::min(block + kBlock, size);
    unsigned any = 0;
    for (int64_t i = block; i < end; ++i) any |= count[i];
    if (any == 0) {
      std::memset(times + block, encoder.steps, static_cast<size_t>(end - block));
      continue;
    }
    for (int64_t i = block; i < end; ++i) {
      times[i] = code[count[i]];
      count[i] = 0;
    }
  }
}

template <bool Identity>
inline void first(const fs_encoder &encoder, const fs_event *events, int64_t n, int64_t t_start, int64_t t_end,
                     uint8_t *times, int64_t *counts) {
  std::memset(times, encoder.steps, static_cast<size_t>(encoder.size()));
  const uint64_t span = static_cast<uint64_t>(t_end) - static_cast<uint64_t>(t_start);
  const uint64_t steps = static_cast<uint64_t>(encoder.steps);
  // Events come mostly in order, so the step rarely changes: `from` <= t - t_start < `to` have the step `step`.
  uint64_t from = 0, to = 0;
  uint8_t step = 0;
  for_each<Identity>(encoder, events, n, counts, [&](int32_t i, int64_t t) {
    const uint64_t after =
        t < t_start ? 0 : std::min(static_cast<uint64_t>(t) - static_cast<uint64_t>(t_start), span - 1);
    if (after < from || after >= to) {
      const uint64_t q = steps * after / span;
      from = (q * span + steps - 1) / steps;
      to = ((q + 1) * span + steps - 1) / steps;
      step = static_cast<uint8_t>(q);
    }
    times[i] = std::min(times[i], step);
  });
}

void encode(fs_encoder &encoder, const fs_event *events, int64_t n, int64_t t_start, int64_t t_end,
                      uint8_t *times, int64_t *counts) {
  if (encoder.first && encoder.identity) first<true>(encoder, events, n, t_start, t_end, times, counts);
  else if (encoder.first) first<false>(encoder, events, n, t_start, t_end, times, counts);
  else if (encoder.identity) count<true>(encoder, events, n, times, counts);
  else count<false>(encoder, events, n, times, counts);
}

bool allowed(const fs_encoder &e) {
  const auto side = [](int value) { return value >= 1 && value <= 65536; };
  return (e.channels == 1 || e.channels == 2) && side(e.height) && side(e.width) && side(e.sensor_width) &&
         side(e.sensor_height) && e.steps >= 1 && e.steps <= 255 && e.count_scale >= 1 && e.count_scale <= 65535 &&
         e.size() < (int64_t{1} << 31);
}

}  // namespace

extern "C" fs_encoder *fs_encoder_new(int first, int channels, int height, int width, int steps, int count_scale,
                                      int sensor_width, int sensor_height, const int32_t *columns, const int32_t *rows) {
  auto *encoder = new (std::nothrow) fs_encoder;
  if (encoder == nullptr) return nullptr;
  fs_encoder &e = *encoder;
  e.first = first != 0;
  e.channels = channels, e.height = height, e.width = width, e.steps = steps, e.count_scale = count_scale;
  e.sensor_width = sensor_width, e.sensor_height = sensor_height;
  try {
    if (!allowed(e)) throw std::bad_alloc();
    e.columns.assign(columns, columns + sensor_width);
    e.rows.assign(rows, rows + sensor_height);
    e.identity = sensor_width == width && sensor_height == height;
    for (int x = 0; x < sensor_width; ++x) {
      if (columns[x] < -1 || columns[x] >= width) throw std::bad_alloc();
      e.identity = e.identity && columns[x] == x;
    }
    for (int y = 0; y < sensor_height; ++y) {
      if (rows[y] < -1 || rows[y] >= height) throw std::bad_alloc();
      e.identity = e.identity && rows[y] == y;
      if (rows[y] > 0) e.rows[static_cast<size_t>(y)] = rows[y] * width;
    }
    for (int c = 0; c <= count_scale; ++c)  // Eq. 1: floor(T (1 - p)) with p = c / count_scale, in integers
      e.code.push_back(static_cast<uint8_t>(int64_t{steps} * (count_scale - c) / count_scale));
    if (!e.first && count_scale <= steps) {
      e.next.assign(256, 0);
      for (size_t c = 0; c < static_cast<size_t>(count_scale); ++c) e.next[e.code[c]] = e.code[c + 1];
    } else if (!e.first) {
      e.counts.assign(static_cast<size_t>(e.size()), 0);
    }
  } catch (const std::bad_alloc &) {
    delete encoder;
    return nullptr;
  }
  return encoder;
}

extern "C" void fs_encoder_free(fs_encoder *encoder) { delete encoder; }

extern "C" void fs_encode(fs_encoder *encoder, const fs_event *events, int64_t n, int64_t t_start, int64_t t_end,
                          uint8_t *times, int64_t counts[3]) {
  encode(*encoder, events, n, t_start, t_end, times, counts);
}
