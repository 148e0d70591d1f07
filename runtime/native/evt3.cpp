// Prophesee EVT 3.0 words to events: runtime/firstspike/sources/formats/evt3.py says what is decoded and from which
// specification; tests/support/decoding.py holds the definition, word by word, that this must equal.
#include <bit>
#include <cstring>

#include "firstspike.h"

namespace {

enum Kind : unsigned {
  kRow = 0,
  kSingle = 2,
  kBase = 3,
  kVector12 = 4,
  kVector8 = 5,
  kTimeLow = 6,
  kTimeHigh = 8,
  kTrigger = 10
};

constexpr int64_t kMostAWord = 12;  // events

}  // namespace

extern "C" int64_t fs_evt3_decode(fs_evt3 *state, const uint16_t *words, int64_t n, fs_event *events, int64_t room,
                                  int64_t *used) {
  fs_evt3 s = *state;
  int64_t time = s.high << 12 | s.low;
  int64_t count = 0, i = 0;
  for (; i < n && count + kMostAWord <= room; ++i) {
    uint16_t word;
    std::memcpy(&word, words + i, sizeof word);
    const unsigned load = word & 0xFFFu;
    unsigned mask = 1, step = 0, column = load & 0x7FFu, polarity = load >> 11;
    switch (word >> 12) {
      case kRow:
        s.row = static_cast<int32_t>(load & 0x7FFu);
        continue;
      case kBase:
        s.column = load & 0x7FFu;
        s.polarity = load >> 11;
        continue;
      case kTimeLow:
        s.low = load;
        time = s.high << 12 | s.low;
        continue;
      case kTimeHigh: {
        // A fall by more than half the range is a wrap; a smaller one a late word.
        const int64_t before = s.timed ? s.high : 0;
        int64_t loops = s.high >> 12;
        if (s.timed && (s.high & 0xFFF) - static_cast<int64_t>(load) > 2048) ++loops;
        s.high = loops << 12 | load;
        if (s.high != before) s.low = 0;
        s.timed = 1;
        time = s.high << 12 | s.low;
        continue;
      }
      case kTrigger:
        ++s.triggers;
        continue;
      case kSingle:
        break;
      case kVector12:
      case kVector8:
        step = (word >> 12) == kVector12 ? 12 : 8;
        mask = load & ((1u << step) - 1);
        column = s.column;
        polarity = s.polarity;
        s.column = (s.column + step) & 0xFFFFu;
        break;
      default:
        continue;
    }
    if (!s.timed || s.row < 0) [[unlikely]] {
      s.early += std::popcount(mask);
      continue;
    }
    for (; mask != 0; mask &= mask - 1) {
      const unsigned x = column + static_cast<unsigned>(std::countr_zero(mask));
      events[count++] = {time, static_cast<uint16_t>(x), static_cast<uint16_t>(s.row), static_cast<uint8_t>(polarity),
                         {}};
    }
  }
  *state = s;
  *used = i;
  return count;
}
