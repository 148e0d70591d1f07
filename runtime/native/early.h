// Early spikes of quartz neurons. With time counted backwards from the end of the input phase, the potential k steps before
// it is u(k) = sum of w_j * max(a_j - k, 0) + b * max(T_in - k, 0), as an input with the activation a has spiked at end - a.
// A neuron has spiked early if u(k) reached the threshold for any k > 0, and the greatest such k is its first spike.
//
// Two bounds leave few neurons and few k in question. What excites a neuron, p(k), is u(k) without its negative terms; it is
// convex in k and 0 at the greatest activation A, so p(k) <= p(1) * (A - k) / (A - 1). And u(k) <= u(0) + k * (sum of |w|
// over w < 0), since in k steps no input takes away more than |w| * k. The rest is computed, with k on the lanes.
#pragma once

#include "lanes.h"

namespace FS_ARCH {
namespace {

// A neuron in question, and the steps first <= k <= last in which it could have spiked first.
struct Doubt {
  const uint8_t *field;
  const int32_t *listed;  // the field's groups that are not silent; null: all are looked at
  int32_t count, lane, first, last;
  int32_t at;     // which of the tile's neurons it is
  int32_t early;  // the answer: how many steps before the end it spikes, 0 if it does not
};

constexpr int kSteps = kVector < 8 ? kVector : 8;  // lanes of time
constexpr int kDoubts = 4;                         // neurons at a time: one alone would wait for each of its sums

// More than what rounding does to k, less than matters.
constexpr float kSlack = 1.0F / 1024;

// Whether neurons are in question by their u(0) and p(1): whether there is a k with k <= 1 + (A - 1) * (1 - theta / p(1)),
// from the first bound, and k >= (theta - u(0)) / slope, from the second.
template <int W>
FS_INLINE Vec<W> question(const Layer &layer, int lane, int greatest_input, const Vec<W> &u, const Vec<W> &p) {
  using Floats = typename VectorOf<W>::Floats;
  const auto theta = static_cast<float>(layer.threshold()), range = static_cast<float>(greatest_input - 1);
  const Floats slope = (Floats)load<W>(&layer.slope[0] + lane);
  const Floats room = slope * (range + 1 + kSlack) + __builtin_convertvector(u - layer.threshold(), Floats);
  return (p >= layer.threshold()) & (room * __builtin_convertvector(p, Floats) >= slope * (range * theta));
}

// The least and the greatest k in question.
FS_INLINE void limit(const Layer &layer, int greatest_input, int32_t u, int32_t p, Doubt &doubt) {
  const auto theta = static_cast<float>(layer.threshold());
  const float latest = 1 + kSlack + static_cast<float>(greatest_input - 1) * (1 - theta / static_cast<float>(p));
  const float missing = (theta - static_cast<float>(u)) / layer.slope[static_cast<size_t>(doubt.lane)] + (1 - kSlack);
  doubt.last = static_cast<int32_t>(latest);
  doubt.first = missing < 1 ? 1 : missing < 1024 ? static_cast<int32_t>(missing) : 1024;
}

// One window of steps, the last ones that are left, of N neurons.
template <int N, bool Narrow>
FS_INLINE void look(const Layer &layer, Doubt *const (&doubts)[N]) {
  constexpr int W = kSteps;
  const int32_t *places = &layer.places[0], phase = layer.end - layer.start;
  const int64_t stride = int64_t{layer.lanes} * 4;
  Vec<W> count, u[N], in_bytes[N];
  for (int i = 0; i < W; ++i) count[i] = i;
  const uint8_t *fields[N];
  const int8_t *weights[N];
  int from[N];
  for (int n = 0; n < N; ++n) {
    const Doubt &doubt = *doubts[n];
    from[n] = greatest(doubt.first, doubt.last - W + 1);
    const Vec<W> k = count + from[n], none{}, charged = phase - k;
    in_bytes[n] = repeat<W>(k > 255 ? 255 - none : k);
    u[n] = layer.bias[static_cast<size_t>(doubt.lane)] * (charged > 0 ? charged : none);
    fields[n] = doubt.field;
    weights[n] = &layer.packed[0] + int64_t{doubt.lane} * 4;
  }
  if (N == 1 && doubts[0]->listed != nullptr) {
    const Doubt &doubt = *doubts[0];
    for (int i = 0; i < doubt.count; ++i) {
      const int group = doubt.listed[i];
      u[0] = dot4<W, Narrow>(u[0], less<W>(four<W>(fields[0] + places[group]), in_bytes[0]),
                             four<W>(weights[0] + group * stride));
    }
  } else {
    for (int i = 0; i < layer.groups; ++i) {
      const int64_t place = places[i], at = i * stride;
      for (int n = 0; n < N; ++n)
        u[n] = dot4<W, Narrow>(u[n], less<W>(four<W>(fields[n] + place), in_bytes[n]), four<W>(weights[n] + at));
    }
  }
  for (int n = 0; n < N; ++n) {
    Doubt &doubt = *doubts[n];
    const Vec<W> crossed = u[n] >= layer.threshold();
    if (any<W>(crossed)) {
      int32_t flat[W];
      store<W>(flat, crossed);
      for (int i = W - 1; i >= 0 && doubt.early == 0; --i)
        if (flat[i] != 0 && from[n] + i <= doubt.last) doubt.early = from[n] + i;
    }
    doubt.last = doubt.early != 0 ? 0 : from[n] - 1;
  }
}

// Answers them all. Where a window does not decide, the neuron is looked at again, in the place of a new one.
template <bool Narrow>
[[gnu::noinline]] void follow(const Layer &layer, Doubt *doubts, int n) {
  if (n > 0 && doubts[0].listed != nullptr) {
    for (int i = 0; i < n; ++i)
      while (doubts[i].last >= doubts[i].first) {
        Doubt *const one[1] = {doubts + i};
        look<1, Narrow>(layer, one);
      }
    return;
  }
  Doubt nobody[kDoubts] = {};
  Doubt *taken[kDoubts];
  int next = 0, open = 0;
  for (int i = 0; i < kDoubts; ++i) taken[i] = &nobody[i];
  for (;;) {
    open = 0;
    for (int i = 0; i < kDoubts; ++i) {
      if (taken[i]->last < taken[i]->first || taken[i] == &nobody[i]) {
        if (next < n) taken[i] = doubts + next++;
        else {
          nobody[i] = doubts[0];
          nobody[i].last = nobody[i].first;
          taken[i] = &nobody[i];
          continue;
        }
      }
      ++open;
    }
    if (open == 0) return;
    look<kDoubts, Narrow>(layer, taken);
  }
}

}  // namespace
}  // namespace FS_ARCH
