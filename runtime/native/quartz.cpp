// The quartz neuron, early spikes exact: between input spikes a potential is a straight line, so it is tested where the
// current changes, and the step of a crossing follows from the line. One output row at a time, so that its currents and
// potentials stay in the cache.
#include <algorithm>

#include "clones.h"
#include "network.h"

namespace {

// Sorts the layer's inputs that are not silent by time (greatest activation first) into `events`, row after row.
FS_INLINE void sort_events(fs_network &network, const Layer &layer, const uint16_t *input) {
  const int row_size = layer.in.width * layer.in.channels, size = row_size * layer.in.height;
  int32_t *histogram = network.histogram.data(), *row_start = network.row_start.data();
  std::fill(histogram, histogram + layer.greatest_input + 2, 0);
  for (int i = 0; i < size; ++i) ++histogram[input[i]];
  histogram[0] = 0;
  for (int a = layer.greatest_input, n = 0; a >= 1; --a) {
    const int count = histogram[a];
    histogram[a] = n;
    n += count;
    histogram[0] = n;  // in the end, how many
  }
  Event *sorted = network.by_time.data();
  const int n = histogram[0];
  std::fill(row_start, row_start + layer.in.height + 1, 0);
  for (int y = 0, i = 0; y < layer.in.height; ++y)
    for (int at = 0; at < row_size; ++at, ++i)
      if (const int a = input[i]; a != 0) {
        sorted[histogram[a]++] = {i, a};
        ++row_start[y + 1];
      }
  for (int y = 0; y < layer.in.height; ++y) row_start[y + 1] += row_start[y];
  int32_t *cursor = network.cursor.data();
  std::copy(row_start, row_start + layer.in.height, cursor);
  for (int i = 0; i < n; ++i) {
    const int y = sorted[i].at / row_size;
    network.events[static_cast<size_t>(cursor[y]++)] = {sorted[i].at - y * row_size, sorted[i].a};
  }
}

// u += I * steps, and every neuron whose line crosses the threshold on the way spikes at the first whole step there.
FS_INLINE void advance(const Layer &layer, int from, int steps, int n, const int32_t *current, int32_t *potential,
                       int32_t *fired) {
  const int32_t threshold = layer.threshold();
  for (int block = 0; block < n; block += kLanes) {
    int32_t crossed = 0;
    for (int k = block; k < block + kLanes; ++k) {
      potential[k] += current[k] * steps;
      crossed |= (potential[k] >= threshold) & (fired[k] == 0);
    }
    if (crossed == 0) continue;
    for (int k = block; k < block + kLanes; ++k)
      if (potential[k] >= threshold && fired[k] == 0) {
        const int32_t before = potential[k] - current[k] * steps;
        const int32_t wait = (threshold - before + current[k] - 1) / current[k];  // rising, so current > 0
        fired[k] = layer.last - (from + wait);
      }
  }
}

// Switches an input's current on in every output pixel of the row whose receptive field holds it.
FS_INLINE void switch_on(const Layer &layer, int ky, int at, int32_t *current) {
  const int channels = layer.in.channels, lanes = layer.lanes;
  const int x = at / channels + layer.padding_x, c = at % channels;
  const int last = std::min(x / layer.stride_x, layer.out.width - 1);
  const int beyond = x - layer.kernel_x + 1;  // output pixels that begin before this do not reach x
  const int first = beyond <= 0 ? 0 : (beyond + layer.stride_x - 1) / layer.stride_x;
  for (int out = first; out <= last; ++out) {
    const int64_t tap = int64_t{ky} * layer.kernel_x + (x - out * layer.stride_x);
    const int8_t *w = layer.weights.data() + (tap * channels + c) * lanes;
    int32_t *row = current + int64_t{out} * lanes;
    for (int block = 0; block < lanes; block += kLanes)
      for (int k = block; k < block + kLanes; ++k) row[k] += w[k];
  }
}

FS_INLINE void run_row(fs_network &network, Layer &layer, int y, int32_t *outputs) {
  const int lanes = layer.lanes, n = layer.out.width * lanes;
  int32_t *current = network.current.data(), *potential = network.potential.data(), *fired = network.fired.data();
  std::fill(current, current + n, 0);
  std::fill(potential, potential + n, 0);
  std::fill(fired, fired + n, 0);
  const int top = y * layer.stride_y - layer.padding_y;
  const int ky_first = std::max(-top, 0), ky_end = std::min(layer.kernel_y, layer.in.height - top);
  const int32_t *row_start = network.row_start.data();
  const Event *events = network.events.data();
  int32_t *cursor = network.cursor.data();
  for (int ky = ky_first; ky < ky_end; ++ky) cursor[ky] = row_start[top + ky];

  int now = 0;
  bool biased = false;
  for (;;) {
    int next = biased ? layer.end : layer.start;
    for (int ky = ky_first; ky < ky_end; ++ky)
      if (cursor[ky] < row_start[top + ky + 1]) next = std::min(next, layer.end - events[cursor[ky]].a);
    if (next > now) advance(layer, now, next - now, n, current, potential, fired);
    now = next;
    if (now == layer.end) break;
    if (now == layer.start && !biased) {
      biased = true;
      for (int x = 0; x < layer.out.width; ++x)
        for (int k = 0; k < lanes; ++k) current[x * lanes + k] += layer.bias[static_cast<size_t>(k)];
    }
    for (int ky = ky_first; ky < ky_end; ++ky)
      for (; cursor[ky] < row_start[top + ky + 1] && layer.end - events[cursor[ky]].a == now; ++cursor[ky])
        switch_on(layer, ky, events[cursor[ky]].at, current);
  }

  const float ramp_f = static_cast<float>(layer.ramp);
  uint16_t *activations = layer.activations.data() + int64_t{y} * layer.out.width * layer.out.channels;
  for (int x = 0; x < layer.out.width; ++x)
    for (int k = 0; k < layer.out.channels; ++k) {
      const int i = x * lanes + k;
      const int32_t late = readout(potential[i], layer.rounding, layer.ramp, ramp_f, layer.steps);
      *activations++ = static_cast<uint16_t>(fired[i] != 0 ? fired[i] : late);
    }
  if (outputs != nullptr) std::copy(potential, potential + n, outputs + int64_t{y} * n);
}

FS_CLONES void run(fs_network &network, Layer &layer, const uint16_t *input, int32_t *outputs) {
  sort_events(network, layer, input);
  for (int y = 0; y < layer.out.height; ++y) run_row(network, layer, y, outputs);
}

}  // namespace

void run_quartz(fs_network &network, Layer &layer, const uint16_t *input, int32_t *outputs) {
  run(network, layer, input, outputs);
}
