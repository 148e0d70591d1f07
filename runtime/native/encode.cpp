// Events to spike times: runtime/firstspike/encode.py holds the definition. One pass over the packed events that touches
// only tensors of the model's size.
#include "encode.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "kernels.h"

namespace {

#define FS_ENCODE_KERNELS(arch) {arch::place, arch::within, arch::finish_counts}
constexpr EncodeKernels kTables[] = FS_TABLES(FS_ENCODE_KERNELS);

// Calls update(place) for n places, and meanwhile fetches the events two blocks ahead: the updates' scattered misses would
// otherwise keep the machine from reading on.
template <typename Update>
inline void update_all(const int32_t *index, int n, const fs_event *events, Update update) {
  constexpr int kEventsALine = 4;
  const uintptr_t ahead = reinterpret_cast<uintptr_t>(events) + 2 * kBlock * sizeof(fs_event);
  int k = 0;
  for (; k + kEventsALine <= n; k += kEventsALine) {
    __builtin_prefetch(reinterpret_cast<const void *>(ahead + static_cast<uintptr_t>(k) * sizeof(fs_event)));
    for (int i = k; i < k + kEventsALine; ++i) update(index[i]);
  }
  for (; k < n; ++k) update(index[k]);
}

// Calls update(place) for each event that lies on the model, and fills `counts`.
template <typename Update>
void for_each_place(const fs_encoder &encoder, const fs_event *events, int64_t n, int64_t *counts, Update update) {
  int64_t kept = 0, outside = 0;
  int32_t index[kBlock];
  for (int64_t i = 0; i < n; i += kBlock) {
    const int taken = static_cast<int>(std::min<int64_t>(n - i, kBlock));
    int left = taken;
    if (encoder.kernels->place(encoder.geometry, events + i, taken, index, &outside)) {
      left = 0;
      for (int k = 0; k < taken; ++k) {
        index[left] = index[k];
        left += index[k] >= 0;
      }
    }
    kept += left;
    update_all(index, left, events + i, update);
  }
  counts[0] = kept;
  counts[1] = outside;
  counts[2] = n - kept - outside;
}

void count(fs_encoder &encoder, const fs_event *events, int64_t n, uint8_t *times, int64_t *counts) {
  if (!encoder.next.empty()) {
    std::memset(times, encoder.start, static_cast<size_t>(encoder.size));
    const uint8_t *next = encoder.next.data();
    for_each_place(encoder, events, n, counts, [=](int32_t i) { times[i] = next[times[i]]; });
    if (encoder.count_scale > encoder.steps)
      encoder.kernels->finish_counts(times, encoder.size, encoder.steps, encoder.count_scale);
    return;
  }
  uint16_t *count = encoder.counts.data();
  const int most = encoder.count_scale;
  for_each_place(encoder, events, n, counts,
                 [=](int32_t i) { count[i] = static_cast<uint16_t>(count[i] + (count[i] < most)); });
  for (int64_t i = 0; i < encoder.size; ++i) {
    times[i] = encoder.code[count[i]];
    count[i] = 0;
  }
}

// How many pixels spike. The energy model asks for each window, and from Python that costs as much as an inference.
int64_t spiking(const uint8_t *times, int64_t size, uint8_t steps) {
  uint32_t n = 0;
  for (int64_t i = 0; i < size; ++i) n += times[i] < steps;
  return n;
}

// The step of a time, and the stretch of times that have the same one.
struct Step {
  int64_t from;
  uint64_t span;
  uint8_t step;
};

// Times outside of the window count as the nearest within. All sums are modulo 2^64; steps * (t_end - t_start) < 2^63.
Step step_of(int64_t t, int64_t t_start, int64_t t_end, int steps_) {
  const uint64_t start = static_cast<uint64_t>(t_start), steps = static_cast<uint64_t>(steps_);
  const uint64_t span = static_cast<uint64_t>(t_end) - start;
  const uint64_t after = t < t_start ? 0 : std::min(static_cast<uint64_t>(t) - start, span - 1);
  const uint64_t step = steps * after / span;
  const uint64_t from = (step * span + steps - 1) / steps, to = ((step + 1) * span + steps - 1) / steps;
  return {static_cast<int64_t>(start + from), to - from, static_cast<uint8_t>(step)};
}

void first(const fs_encoder &encoder, const fs_event *events, int64_t n, int64_t t_start, int64_t t_end, uint8_t *times,
           int64_t *counts) {
  std::memset(times, encoder.steps, static_cast<size_t>(encoder.size));
  int64_t kept = 0, outside = 0;
  int32_t index[kBlock];
  Step now = step_of(t_start, t_start, t_end, encoder.steps);
  for (int64_t i = 0; i < n; i += kBlock) {
    const fs_event *block = events + i;
    const int taken = static_cast<int>(std::min<int64_t>(n - i, kBlock));
    const bool dropped = encoder.kernels->place(encoder.geometry, block, taken, index, &outside);
    if (!encoder.kernels->within(block, 1, now.from, now.span))
      now = step_of(block[0].t, t_start, t_end, encoder.steps);
    if (!dropped && encoder.kernels->within(block, taken, now.from, now.span)) {
      // Events come mostly in order, so most blocks lie within one step.
      const uint8_t step = now.step;
      update_all(index, taken, block, [=](int32_t k) { times[k] = std::min(times[k], step); });
      kept += taken;
      continue;
    }
    for (int k = 0; k < taken; ++k) {
      if (index[k] < 0) continue;
      if (!encoder.kernels->within(block + k, 1, now.from, now.span))
        now = step_of(block[k].t, t_start, t_end, encoder.steps);
      times[index[k]] = std::min(times[index[k]], now.step);
      ++kept;
    }
  }
  counts[0] = kept;
  counts[1] = outside;
  counts[2] = n - kept - outside;
}

// Finds arithmetic that gives just the table's places: the narrowest shift for which some multiplier fits all of them.
bool find_axis(const std::vector<int32_t> &table, Axis &axis) {
  const auto begin = std::find_if(table.begin(), table.end(), [](int32_t place) { return place >= 0; });
  const auto end = std::find_if(begin, table.end(), [](int32_t place) { return place < 0; });
  if (begin == end || std::find_if(end, table.end(), [](int32_t place) { return place >= 0; }) != table.end()) return false;
  const int64_t kept = end - begin, base = *begin;
  for (int shift = 0; shift < 32; ++shift) {
    int64_t least = 0, most = UINT32_MAX / std::max<int64_t>(kept - 1, 1);  // (kept - 1) * multiplier < 2^32
    for (int64_t i = 1; i < kept; ++i) {
      const int64_t place = begin[i] - base;
      if (place < 0) return false;
      least = std::max(least, ((place << shift) + i - 1) / i);
      most = std::min(most, (((place + 1) << shift) - 1) / i);
    }
    if (least > most) continue;
    axis = {static_cast<uint32_t>(begin - table.begin()), static_cast<uint32_t>(kept), static_cast<uint32_t>(least),
            static_cast<uint32_t>(shift), static_cast<uint32_t>(base)};
    return true;
  }
  return false;
}

bool set_geometry(Geometry &geometry, const fs_encoder &encoder, int channels, int height, int width, int sensor_width,
                  int sensor_height, const int32_t *columns, const int32_t *rows) {
  const auto side = [](int value) { return value >= 1 && value <= 65536; };
  if (!(channels == 1 || channels == 2) || !side(height) || !side(width) || !side(sensor_width) || !side(sensor_height) ||
      encoder.size >= int64_t{1} << 31)
    return false;
  const auto valid = [](const int32_t *table, int n, int most) {
    return std::all_of(table, table + n, [most](int32_t place) { return place >= -1 && place < most; });
  };
  if (!valid(columns, sensor_width, width) || !valid(rows, sensor_height, height)) return false;
  geometry.width = width;
  geometry.plane = channels == 2 ? height * width : 0;
  geometry.sensor_width = sensor_width, geometry.sensor_height = sensor_height;
  geometry.columns.assign(columns, columns + sensor_width);
  geometry.rows.assign(rows, rows + sensor_height);
  geometry.exact = find_axis(geometry.columns, geometry.x) && find_axis(geometry.rows, geometry.y);
  return true;
}

void set_code(fs_encoder &encoder) {
  const int steps = encoder.steps, scale = encoder.count_scale;
  for (int c = 0; c <= scale; ++c)  // Eq. 1: floor(T (1 - p)) with p = c / C, in integers
    encoder.code.push_back(static_cast<uint8_t>(int64_t{steps} * (scale - c) / scale));
  if (scale > 255) {
    encoder.counts.assign(static_cast<size_t>(encoder.size), 0);
    return;
  }
  const bool of_times = scale <= steps;
  encoder.start = of_times ? steps : 0;
  encoder.next.assign(256, 0);
  for (size_t c = 0; c <= static_cast<size_t>(scale); ++c) {
    const size_t after = std::min<size_t>(c + 1, static_cast<size_t>(scale));
    encoder.next[of_times ? encoder.code[c] : c] = of_times ? encoder.code[after] : static_cast<uint8_t>(after);
  }
}

}  // namespace

extern "C" fs_encoder *fs_encoder_new(int first, int channels, int height, int width, int steps, int count_scale,
                                      int sensor_width, int sensor_height, const int32_t *columns, const int32_t *rows) {
  if (steps < 1 || steps > 255 || count_scale < 1 || count_scale > 65535) return nullptr;
  auto *encoder = new (std::nothrow) fs_encoder;
  if (encoder == nullptr) return nullptr;
  try {
    encoder->first = first != 0;
    encoder->steps = steps, encoder->count_scale = count_scale;
    encoder->size = int64_t{channels} * height * width;
    encoder->kernels = kernels_of(kTables, FS_KERNELS_BEST);
    if (set_geometry(encoder->geometry, *encoder, channels, height, width, sensor_width, sensor_height, columns, rows)) {
      if (!encoder->first) set_code(*encoder);
      return encoder;
    }
  } catch (const std::bad_alloc &) {
  }
  delete encoder;
  return nullptr;
}

extern "C" void fs_encoder_free(fs_encoder *encoder) { delete encoder; }

extern "C" int fs_encoder_kernels(fs_encoder *encoder, int level) {
  const EncodeKernels *kernels = kernels_of(kTables, level);
  if (kernels == nullptr) return FS_REFUSED;
  encoder->kernels = kernels;
  return FS_OK;
}

extern "C" void fs_encode(fs_encoder *encoder, const fs_event *events, int64_t n, int64_t t_start, int64_t t_end,
                          uint8_t *times, int64_t counts[4]) {
  if (encoder->first) first(*encoder, events, n, t_start, t_end, times, counts);
  else count(*encoder, events, n, times, counts);
  counts[3] = spiking(times, encoder->size, static_cast<uint8_t>(encoder->steps));
}
