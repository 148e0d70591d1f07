// Kernels of encoding: what can be done to many events at once.
#include "encode.h"
#include "lanes.h"

namespace FS_ARCH {
namespace {

using Words = uint64_t __attribute__((vector_size(64)));

// Of n <= kBlock events: y << 16 | x, and p not 0 as 1.
FS_INLINE void split(const fs_event *events, int n, uint32_t *xy, uint32_t *on) {
  int i = 0;
#ifdef __AVX512F__
  using Quads = uint32_t __attribute__((vector_size(64)));
  const Quads odd = {2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31};
  const Quads low = {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23}, high = low + 8;
  for (; i + 16 <= n; i += 16) {
    Quads q[4];
    __builtin_memcpy(q, events + i, sizeof q);
    const Quads a = __builtin_shuffle(q[0], q[1], odd), b = __builtin_shuffle(q[2], q[3], odd);
    const Quads xy_16 = __builtin_shuffle(a, b, low), p = __builtin_shuffle(a, b, high) & 0xff;  // the rest is padding
    const Quads on_16 = p != 0;
    __builtin_memcpy(xy + i, &xy_16, sizeof xy_16);
    __builtin_memcpy(on + i, &on_16, sizeof on_16);
  }
#endif
  for (; i < n; ++i) {
    const fs_event *event = events + i;
    xy[i] = static_cast<uint32_t>(event->y) << 16 | event->x;
    on[i] = event->p != 0 ? ~0u : 0;
  }
}

}  // namespace

bool place(const Geometry &geometry, const fs_event *events, int n, int32_t *index, int64_t *outside) {
  uint32_t xy[kBlock], on[kBlock];
  split(events, n, xy, on);
  const uint32_t width = static_cast<uint32_t>(geometry.width), plane = static_cast<uint32_t>(geometry.plane);
  const uint32_t sensor_width = static_cast<uint32_t>(geometry.sensor_width);
  const uint32_t sensor_height = static_cast<uint32_t>(geometry.sensor_height);
  uint32_t beyond = 0, dropped = 0;
  if (geometry.exact) {
    const Axis ax = geometry.x, ay = geometry.y;
    for (int i = 0; i < n; ++i) {
      const uint32_t x = xy[i] & 0xffff, y = xy[i] >> 16, across = x - ax.offset, down = y - ay.offset;
      const uint32_t column = ax.base + (across * ax.multiplier >> ax.shift);
      const uint32_t row = ay.base + (down * ay.multiplier >> ay.shift);
      const bool inside = (across < ax.kept) & (down < ay.kept);
      const uint32_t at = row * width + column + (on[i] & plane);
      index[i] = inside ? static_cast<int32_t>(at) : -1;
      beyond += static_cast<uint32_t>((x >= sensor_width) | (y >= sensor_height));
      dropped += !inside;
    }
  } else {
    const int32_t *columns = &geometry.columns[0], *rows = &geometry.rows[0];
    for (int i = 0; i < n; ++i) {
      const uint32_t x = xy[i] & 0xffff, y = xy[i] >> 16;
      const bool seen = x < sensor_width && y < sensor_height;
      const int32_t column = seen ? columns[x] : -1, row = seen ? rows[y] : -1;
      const bool inside = (column | row) >= 0;
      index[i] = inside ? row * geometry.width + column + static_cast<int32_t>(on[i] & plane) : -1;
      beyond += !seen;
      dropped += !inside;
    }
  }
  *outside += beyond;
  return dropped != 0;
}

bool within(const fs_event *events, int n, int64_t from, uint64_t span) {
  Words out{};
  int i = 0;
  const uint64_t first = static_cast<uint64_t>(from);
  for (; i + 4 <= n; i += 4) {
    Words words;  // t, and the rest of an event, by turns
    __builtin_memcpy(&words, events + i, sizeof words);
    out |= static_cast<Words>(words - first >= span);
  }
  uint64_t any = out[0] | out[2] | out[4] | out[6];
  for (; i < n; ++i) any |= static_cast<uint64_t>(static_cast<uint64_t>(events[i].t) - first >= span);
  return any == 0;
}

void finish_counts(uint8_t *times, int64_t size, int steps, int count_scale) {
  // T (C - c) // C = T - ceil(T c / C), and with m = floor(T 2^16 / C) the product c m / 2^16 is less than c / 2^16 below
  // T c / C, which is a multiple of 1/C: the same ceiling, as c C < 2^16.
  const uint16_t multiplier = static_cast<uint16_t>((steps << 16) / count_scale);  // < 2^16, as steps < count_scale
  const auto finish = [=](uint8_t *at, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      const uint16_t c = at[i];
      const uint16_t high = static_cast<uint16_t>(static_cast<uint32_t>(c) * multiplier >> 16);
      const uint16_t low = static_cast<uint16_t>(c * multiplier);
      at[i] = static_cast<uint8_t>(steps - high - (low != 0));
    }
  };
  constexpr int64_t kLine = 64;
  int64_t i = 0;
  for (; i + kLine <= size; i += kLine) {
    Words words;
    __builtin_memcpy(&words, times + i, sizeof words);
    uint64_t any = 0;
    for (int k = 0; k < 8; ++k) any |= words[k];
    if (any == 0) __builtin_memset(times + i, steps, kLine);  // most of a large sensor sees nothing
    else finish(times + i, kLine);
  }
  finish(times + i, size - i);
}

}  // namespace FS_ARCH
