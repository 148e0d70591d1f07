// Sums over receptive fields, four inputs at once. What is silent costs nothing where it comes in numbers: a field without
// any input is not looked at, and in fields with few, only their groups that are not silent are.
#pragma once

#include "lanes.h"

namespace FS_ARCH {
namespace {

// The groups of a field that are not silent, in order; returns how many.
FS_INLINE int list_groups(const Layer &layer, const uint8_t *field, int32_t *listed) {
  int n = 0;
  for (int begin = 0; begin < layer.groups; begin += layer.row_groups) {
    const uint8_t *row = field + layer.places[begin];
    int i = 0;
#if defined(__AVX512F__)
    const __m512i count = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; i < layer.row_groups; i += 16) {
      const int left = layer.row_groups - i;
      const auto within = static_cast<__mmask16>(left < 16 ? (1u << left) - 1 : 0xffff);
      const __m512i words = _mm512_maskz_loadu_epi32(within, row + 4 * i);
      const __mmask16 found = _mm512_test_epi32_mask(words, words);
      const __m512i numbers = _mm512_add_epi32(count, _mm512_set1_epi32(begin + i));
      _mm512_storeu_si512(listed + n, _mm512_maskz_compress_epi32(found, numbers));
      n += __builtin_popcount(found);
    }
#endif
    for (; i < layer.row_groups; ++i) {
      uint32_t word;
      __builtin_memcpy(&word, row + 4 * i, sizeof word);
      listed[n] = begin + i;
      n += word != 0;
    }
  }
  return n;
}

// u[p][b] += the weights of the group, which begin at w, for every pixel of the tile. Before: as it was one step before.
template <int W, int P, int B, bool Narrow, bool Before>
FS_INLINE void add_group(const uint8_t *const (&fields)[P], int64_t place, const int8_t *w, Vec<W> (&u)[P][B]) {
  Vec<W> weights[B];
  for (int b = 0; b < B; ++b) weights[b] = load<W>(w + int64_t{b} * W * 4);
  for (int p = 0; p < P; ++p) {
    Vec<W> activations = four<W>(fields[p] + place);
    if constexpr (Before) activations = less<W>(activations, repeat<W>(1 - Vec<W>{}));
    for (int b = 0; b < B; ++b) u[p][b] = dot4<W, Narrow>(u[p][b], activations, weights[b]);
  }
}

// All groups of all fields. (The sums are copies, so that they stay in registers.)
template <int W, int P, int B, bool Narrow, bool Before>
FS_INLINE void add_all(const Layer &layer, const uint8_t *const (&fields)[P], const int8_t *w, Vec<W> (&u)[P][B]) {
  const int32_t *places = &layer.places[0];
  const int64_t stride = int64_t{layer.lanes} * 4;
  Vec<W> sums[P][B];
  const uint8_t *from[P];
  for (int p = 0; p < P; ++p) {
    from[p] = fields[p];
    for (int b = 0; b < B; ++b) sums[p][b] = u[p][b];
  }
  for (int i = 0; i < layer.groups; ++i, w += stride) add_group<W, P, B, Narrow, Before>(from, places[i], w, sums);
  for (int p = 0; p < P; ++p)
    for (int b = 0; b < B; ++b) u[p][b] = sums[p][b];
}

// The listed groups of one field.
template <int W, int B, bool Narrow, bool Before>
FS_INLINE void add_listed(const Layer &layer, const uint8_t *field, const int32_t *listed, int n, const int8_t *w,
                          Vec<W> (&u)[B]) {
  const int32_t *places = &layer.places[0];
  const int64_t stride = int64_t{layer.lanes} * 4;
  Vec<W> sums[B];
  for (int b = 0; b < B; ++b) sums[b] = u[b];
  for (int i = 0; i < n; ++i) {
    const int8_t *group = w + listed[i] * stride;
    Vec<W> activations = four<W>(field + places[listed[i]]);
    if constexpr (Before) activations = less<W>(activations, repeat<W>(1 - Vec<W>{}));
    for (int b = 0; b < B; ++b)
      sums[b] = dot4<W, Narrow>(sums[b], activations, load<W>(group + int64_t{b} * W * 4));
  }
  for (int b = 0; b < B; ++b) u[b] = sums[b];
}

}  // namespace
}  // namespace FS_ARCH
