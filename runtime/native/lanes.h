// Arithmetic that the kernels share. Included by kernels only: its functions must not exist outside of their callers.
#pragma once

#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define FS_INLINE [[gnu::always_inline]] inline

namespace FS_ARCH {
namespace {

template <typename T>
FS_INLINE constexpr T least(T a, T b) {
  return b < a ? b : a;
}

template <typename T>
FS_INLINE constexpr T greatest(T a, T b) {
  return a < b ? b : a;
}

// W potentials. The architecture's widest vector is kVector; GCC splits wider ones badly.
#if defined(__AVX512F__)
constexpr int kVector = 16;
#elif defined(__AVX2__)
constexpr int kVector = 8;
#else
constexpr int kVector = 4;
#endif

template <int W>
struct VectorOf {
  typedef int32_t Lanes __attribute__((vector_size(W * 4)));
  typedef uint32_t Words __attribute__((vector_size(W * 4)));
  typedef uint8_t Bytes __attribute__((vector_size(W * 4)));
  typedef float Floats __attribute__((vector_size(W * 4)));
};
template <int W>
using Vec = typename VectorOf<W>::Lanes;

template <int W>
FS_INLINE Vec<W> load(const void *from) {
  Vec<W> to;
  __builtin_memcpy(&to, from, sizeof to);
  return to;
}

template <int W>
FS_INLINE void store(void *to, const Vec<W> &from) {
  __builtin_memcpy(to, &from, sizeof from);
}

// Four neighbouring bytes in every lane.
template <int W>
FS_INLINE Vec<W> four(const void *from) {
  int32_t word;
  __builtin_memcpy(&word, from, sizeof word);
  return word - Vec<W>{};
}

// The same byte, 0 to 255, four times in every lane.
template <int W>
FS_INLINE Vec<W> repeat(const Vec<W> &byte) {
  using Words = typename VectorOf<W>::Words;
  return (Vec<W>)((Words)byte * 0x01010101u);
}

// Lanes that are not 0, lane 0 in the lowest bit.
template <int W>
FS_INLINE uint32_t bits(const Vec<W> &lanes) {
#if defined(__AVX512F__)
  if constexpr (W == 16) return _mm512_test_epi32_mask((__m512i)lanes, (__m512i)lanes);
#endif
#if defined(__AVX2__)
  if constexpr (W == 8) return static_cast<uint32_t>(_mm256_movemask_ps((__m256)(Vec<W>)(lanes != 0)));
#endif
  uint32_t found = 0;
  for (int i = 0; i < W; ++i) found |= static_cast<uint32_t>(lanes[i] != 0) << i;
  return found;
}

template <int W>
FS_INLINE bool any(const Vec<W> &lanes) {
#if defined(__AVX2__)
  if constexpr (W >= 8) return bits<W>(lanes) != 0;
#endif
  int64_t halves[W / 2], some = 0;
  __builtin_memcpy(halves, &lanes, sizeof lanes);
  for (int i = 0; i < W / 2; ++i) some |= halves[i];
  return some != 0;
}

template <int W>
FS_INLINE Vec<W> greatest(const Vec<W> &a, const Vec<W> &b) {
  return a < b ? b : a;
}

// Activations after k further steps are taken from them: what an input has contributed k steps before the end.
template <int W>
FS_INLINE Vec<W> less(const Vec<W> &activations, const Vec<W> &k) {
#if defined(__AVX512BW__)
  if constexpr (W == 16) return (Vec<W>)_mm512_subs_epu8((__m512i)activations, (__m512i)k);
#endif
#if defined(__AVX2__)
  if constexpr (W == 8) return (Vec<W>)_mm256_subs_epu8((__m256i)activations, (__m256i)k);
#endif
  using Bytes = typename VectorOf<W>::Bytes;
  const Bytes a = (Bytes)activations, b = (Bytes)k;
  return (Vec<W>)(a > b ? a - b : Bytes{});
}

// The largest activation for which a pair of products fits into 16 bits, whatever the weights: 2 * 127 * 128 < 2^15.
constexpr int kNarrow = 127;

// u += sum over four inputs of activation (unsigned byte) * weight (signed byte), in every lane. Narrow: activations
// are at most kNarrow.
template <int W, bool Narrow>
FS_INLINE Vec<W> dot4(const Vec<W> &u, const Vec<W> &activations, const Vec<W> &weights) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
  if constexpr (W == 16) return (Vec<W>)_mm512_dpbusd_epi32((__m512i)u, (__m512i)activations, (__m512i)weights);
  if constexpr (W == 8) return (Vec<W>)_mm256_dpbusd_epi32((__m256i)u, (__m256i)activations, (__m256i)weights);
#elif defined(__AVX2__)
  if constexpr (W == 8) {
    const __m256i a = (__m256i)activations, w = (__m256i)weights, ones = _mm256_set1_epi16(1);
    if constexpr (Narrow) return u + (Vec<W>)_mm256_madd_epi16(_mm256_maddubs_epi16(a, w), ones);
    const __m256i low = _mm256_set1_epi16(0xff);
    const __m256i even = _mm256_maddubs_epi16(_mm256_and_si256(a, low), w);
    const __m256i odd = _mm256_maddubs_epi16(_mm256_andnot_si256(low, a), w);
    return u + (Vec<W>)_mm256_madd_epi16(even, ones) + (Vec<W>)_mm256_madd_epi16(odd, ones);
  }
#elif defined(__SSE2__)
  if constexpr (W == 4) {
    const __m128i a = (__m128i)activations, w = (__m128i)weights, low = _mm_set1_epi16(0xff);
    const __m128i even = _mm_madd_epi16(_mm_and_si128(a, low), _mm_srai_epi16(_mm_slli_epi16(w, 8), 8));
    const __m128i odd = _mm_madd_epi16(_mm_srli_epi16(a, 8), _mm_srai_epi16(w, 8));
    return u + (Vec<W>)_mm_add_epi32(even, odd);
  }
#elif defined(__ARM_NEON)
  if constexpr (W == 4) {
#if defined(__ARM_FEATURE_DOTPROD)
    if constexpr (Narrow) return (Vec<W>)vdotq_s32((int32x4_t)u, (int8x16_t)activations, (int8x16_t)weights);
#endif
    // One product fits into 16 bits: 255 * 128 < 2^15.
    const int16x8_t a = vreinterpretq_s16_s32((int32x4_t)activations), w = vreinterpretq_s16_s32((int32x4_t)weights);
    const int16x8_t high = vreinterpretq_s16_u16(vshrq_n_u16(vreinterpretq_u16_s16(a), 8));
    const int16x8_t even = vmulq_s16(vandq_s16(a, vdupq_n_s16(0xff)), vshrq_n_s16(vshlq_n_s16(w, 8), 8));
    const int16x8_t odd = vmulq_s16(high, vshrq_n_s16(w, 8));
    return (Vec<W>)vpadalq_s16(vpadalq_s16((int32x4_t)u, even), odd);
  }
#endif
  Vec<W> sum = u;
  using Words = typename VectorOf<W>::Words;
  for (int shift = 0; shift < 32; shift += 8)
    sum += ((activations >> shift) & 0xff) * ((Vec<W>)((Words)weights << (24 - shift)) >> 24);
  return sum;
}

// The activation of a neuron that has not spiked by the end of its input phase: clip(floor((u + r) / S), 0, T).
// In floating point, exactly: x = clip(u + r, 0, S*T) < 2^23, so x + 1/2 is exact, and (x + 1/2) / S is at least 1/(2S) away
// from a whole number. Multiplying by 1/S is off by less than two units in the last place, below k * 2^-22 for a quotient
// near k, which is less than 1/(2S) where k*S < 2^21. The quotient of x itself floors exactly as long as k*S < 2^24.
template <int W>
FS_INLINE Vec<W> readout(const Vec<W> &u, const Layer &layer) {
  using Floats = typename VectorOf<W>::Floats;
  const Vec<W> none{}, top = layer.ramp * layer.steps - none, shifted = u + layer.rounding;
  const Vec<W> x = shifted < none ? none : shifted < top ? shifted : top;
  const Floats exact = __builtin_convertvector(x, Floats);
  if (layer.inverse != 0) return __builtin_convertvector((exact + 0.5F) * layer.inverse, Vec<W>);
  return __builtin_convertvector(exact / static_cast<float>(layer.ramp), Vec<W>);
}

// The first n <= W lanes, each 0 to 255, as bytes.
template <int W>
FS_INLINE void store_bytes(uint8_t *to, const Vec<W> &from, int n) {
#if defined(__AVX512VL__) && defined(__AVX512BW__)
  if constexpr (W == 16) {
    const __m128i bytes = _mm512_cvtepi32_epi8((__m512i)from);
    if (n == 16) _mm_storeu_si128((__m128i *)to, bytes);
    else _mm_mask_storeu_epi8(to, static_cast<__mmask16>((1u << n) - 1), bytes);
    return;
  }
  if constexpr (W == 8) {
    _mm_mask_storeu_epi8(to, static_cast<__mmask16>((1u << n) - 1), _mm256_cvtepi32_epi8((__m256i)from));
    return;
  }
#endif
  uint8_t bytes[W];
#if defined(__SSE2__)
  for (int i = 0; i < W / 4; ++i) {
    __m128i part;
    __builtin_memcpy(&part, reinterpret_cast<const char *>(&from) + 16 * i, sizeof part);
    const __m128i words = _mm_packs_epi32(part, part);
    const int32_t packed = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    __builtin_memcpy(bytes + 4 * i, &packed, 4);
  }
#else
  for (int i = 0; i < W; ++i) bytes[i] = static_cast<uint8_t>(from[i]);
#endif
  if (n == W) __builtin_memcpy(to, bytes, W);
  else
    for (int i = 0; i < n; ++i) to[i] = bytes[i];
}

}  // namespace
}  // namespace FS_ARCH
