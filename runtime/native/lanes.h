// Arithmetic that the kernels share. Included by kernels only: its functions must not exist outside of their callers.
#pragma once

#include "kernels.h"

#define FS_INLINE [[gnu::always_inline]] inline

template <typename T>
FS_INLINE T least(T a, T b) {
  return b < a ? b : a;
}

template <typename T>
FS_INLINE T greatest(T a, T b) {
  return a < b ? b : a;
}

// A vector of potentials, just as wide as the architecture's: GCC splits wider ones badly.
#if defined(__AVX512F__)
constexpr int kVector = 16;
#elif defined(__AVX2__)
constexpr int kVector = 8;
#else
constexpr int kVector = 4;
#endif
static_assert(kLanes % kVector == 0);
using Lanes = int32_t __attribute__((vector_size(kVector * 4)));

FS_INLINE Lanes load(const int32_t *from) {
  Lanes to;
  __builtin_memcpy(&to, from, sizeof to);
  return to;
}

FS_INLINE void store(int32_t *to, const Lanes &from) { __builtin_memcpy(to, &from, sizeof from); }

FS_INLINE Lanes widen(const int8_t *from) {
  Lanes to;  // a loop, as GCC 12 widens byte by byte in __builtin_convertvector
  for (int i = 0; i < kVector; ++i) to[i] = from[i];
  return to;
}

FS_INLINE bool any(const Lanes &lanes) {
  int64_t halves[kVector / 2], some = 0;
  __builtin_memcpy(halves, &lanes, sizeof lanes);
  for (int i = 0; i < kVector / 2; ++i) some |= halves[i];
  return some != 0;
}

// The activation of a neuron that has not spiked by the end of its input phase: clip(floor((u + r) / S), 0, T).
// The float quotient floors exactly: x = clip(u + r, 0, S*T) < 2^24 is exact, and where x/S is not an integer it lies at
// least 1/S below the next one k, which is more than half a unit in the last place of k, as k*S <= S*T < 2^24.
FS_INLINE int32_t readout(int32_t u, const Layer &layer) {
  const int32_t x = least(greatest(u + layer.rounding, 0), layer.ramp * layer.steps);
  return static_cast<int32_t>(static_cast<float>(x) / static_cast<float>(layer.ramp));
}
