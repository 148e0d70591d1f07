// Quartz networks whose early spikes could give activations above 255 (long frames, many layers), so that a byte cannot
// hold them. Rare, so written for any machine and no more than that: between input spikes a potential is a
// straight line, so it is tested where the current changes, and the step of a crossing follows from the line.
#include "wide.h"

#undef FS_ARCH
#define FS_ARCH wide
#include "lanes.h"

namespace wide {
namespace {

using Row = Vec<kVector>;

FS_INLINE Row widen(const int8_t *from) {
  Row to;
  for (int i = 0; i < kVector; ++i) to[i] = from[i];
  return to;
}

FS_INLINE void fill_zero(int32_t *to, int n) { __builtin_memset(to, 0, static_cast<size_t>(n) * sizeof *to); }

// Sorts the layer's inputs that are not silent by time (greatest activation first) into `spikes`, row after row.
FS_INLINE void sort_spikes(const Layer &layer, Scratch &scratch, const uint16_t *input) {
  const Shape &shape = layer.in;
  const int size = shape.height * shape.width * shape.channels;
  int32_t *next = &scratch.histogram[0], *row_start = &scratch.row_start[0], *cursor = &scratch.cursor[0];
  fill_zero(next, layer.greatest_input + 1);
  for (int i = 0; i < size; ++i) ++next[input[i]];
  int n = 0;
  for (int a = layer.greatest_input; a >= 1; --a) {  // from how many to where they begin
    const int count = next[a];
    next[a] = n;
    n += count;
  }
  Spike *sorted = &scratch.by_time[0], *spikes = &scratch.spikes[0];
  int seen = 0;
  for (int y = 0; y < shape.height; ++y) {
    cursor[y] = row_start[y] = seen;
    for (int x = 0; x < shape.width; ++x)
      for (int c = 0; c < shape.channels; ++c)
        if (const int a = *input++; a != 0) {
          sorted[next[a]++] = {y, x, c, a};
          ++seen;
        }
  }
  row_start[shape.height] = seen;
  for (int i = 0; i < n; ++i) spikes[cursor[sorted[i].y]++] = sorted[i];
}

// u += I * steps, and every neuron whose line crosses the threshold on the way spikes at the first whole step there.
FS_INLINE void advance(const Layer &layer, int from, int steps, int n, const int32_t *current, int32_t *potential,
                       int32_t *fired) {
  const int32_t threshold = layer.threshold();
  Row crossed{};
  for (int i = 0; i < n; i += kVector) {
    const Row u = load<kVector>(potential + i) + load<kVector>(current + i) * steps;
    store<kVector>(potential + i, u);
    crossed |= (u >= threshold) & (load<kVector>(fired + i) == 0);
  }
  if (!any<kVector>(crossed)) return;
  for (int block = 0; block < n; block += kVector) {
    if (!any<kVector>((load<kVector>(potential + block) >= threshold) & (load<kVector>(fired + block) == 0))) continue;
    for (int i = block; i < block + kVector; ++i)
      if (potential[i] >= threshold && fired[i] == 0) {
        const int32_t before = potential[i] - current[i] * steps;
        const int32_t wait = (threshold - before + current[i] - 1) / current[i];  // rising, so current > 0
        fired[i] = layer.last - (from + wait);
      }
  }
}

// Switches an input's current on in every output pixel of the row whose receptive field holds it.
FS_INLINE void switch_on(const Layer &layer, int ky, const Spike &spike, int32_t *current) {
  const int lanes = layer.lanes, stride = layer.stride_x, x = spike.x + layer.padding_x;
  const int last = stride == 1 ? least(x, layer.out.width - 1) : least(x / stride, layer.out.width - 1);
  const int beyond = greatest(x - layer.kernel_x + 1, 0);  // output pixels that begin before this do not reach x
  const int first = stride == 1 ? beyond : (beyond + stride - 1) / stride;
  const int8_t *weights = &layer.weights[0];
  for (int out = first; out <= last; ++out) {
    const int64_t tap = int64_t{ky} * layer.kernel_x + (x - out * stride);
    const int8_t *w = weights + (tap * layer.in.channels + spike.c) * lanes;
    int32_t *row = current + int64_t{out} * lanes;
    for (int k = 0; k < lanes; k += kVector) store<kVector>(row + k, load<kVector>(row + k) + widen(w + k));
  }
}

FS_INLINE void run_row(const Layer &layer, Scratch &scratch, int y, uint16_t *output, int32_t *potentials) {
  const int lanes = layer.lanes, n = layer.out.width * lanes;
  int32_t *current = &scratch.current[0], *potential = &scratch.potential[0], *fired = &scratch.fired[0];
  fill_zero(current, n);
  fill_zero(potential, n);
  fill_zero(fired, n);
  const int top = y * layer.stride_y - layer.padding_y;
  const int ky_first = greatest(-top, 0), ky_end = least(layer.kernel_y, layer.in.height - top);
  const int32_t *row_start = &scratch.row_start[0], *bias = &layer.bias[0];
  const Spike *spikes = &scratch.spikes[0];
  int32_t *cursor = &scratch.cursor[0];
  for (int ky = ky_first; ky < ky_end; ++ky) cursor[ky] = row_start[top + ky];

  int now = 0;
  bool biased = false;
  for (;;) {
    int next = biased ? layer.end : layer.start;
    for (int ky = ky_first; ky < ky_end; ++ky)
      if (cursor[ky] < row_start[top + ky + 1]) next = least(next, layer.end - spikes[cursor[ky]].a);
    if (next > now) advance(layer, now, next - now, n, current, potential, fired);
    now = next;
    if (now == layer.end) break;
    if (now == layer.start && !biased) {
      biased = true;
      for (int x = 0; x < layer.out.width; ++x)
        for (int k = 0; k < lanes; ++k) current[x * lanes + k] += bias[k];
    }
    for (int ky = ky_first; ky < ky_end; ++ky)
      for (; cursor[ky] < row_start[top + ky + 1] && layer.end - spikes[cursor[ky]].a == now; ++cursor[ky])
        switch_on(layer, ky, spikes[cursor[ky]], current);
  }

  for (int i = 0; i < n; ++i) current[i] = fired[i] != 0 ? fired[i] : readout<kVector>(potential[i] - Row{}, layer)[0];
  output += int64_t{y} * layer.out.width * layer.out.channels;
  for (int x = 0; x < layer.out.width; ++x, current += lanes)
    for (int k = 0; k < layer.out.channels; ++k) *output++ = static_cast<uint16_t>(current[k]);
  if (potentials != nullptr) __builtin_memcpy(potentials + int64_t{y} * n, potential, static_cast<size_t>(n) * 4);
}

void run_quartz(const Layer &layer, Scratch &scratch, const uint16_t *input, uint16_t *output, int32_t *potentials) {
  sort_spikes(layer, scratch, input);
  for (int y = 0; y < layer.out.height; ++y) run_row(layer, scratch, y, output, potentials);
}

void run_maxpool(const Layer &layer, const uint16_t *input, uint16_t *output) {
  const int channels = layer.in.channels;
  for (int y = 0; y < layer.out.height; ++y)
    for (int x = 0; x < layer.out.width; ++x, output += channels)
      for (int ky = 0; ky < layer.kernel_y; ++ky)
        for (int kx = 0; kx < layer.kernel_x; ++kx) {
          const int64_t pixel = int64_t{y * layer.stride_y + ky} * layer.in.width + x * layer.stride_x + kx;
          const uint16_t *in = input + pixel * channels;
          const bool begin = ky == 0 && kx == 0;
          for (int c = 0; c < channels; ++c) output[c] = begin ? in[c] : greatest(output[c], in[c]);
        }
}

// (height, width, channels) to (channels, height, width).
template <typename To, typename Convert>
void planes(const Shape &shape, const uint16_t *from, To *to, Convert convert) {
  const int64_t pixels = int64_t{shape.height} * shape.width;
  for (int c = 0; c < shape.channels; ++c)
    for (int64_t i = 0; i < pixels; ++i) *to++ = static_cast<To>(convert(from[i * shape.channels + c]));
}

}  // namespace

bool run(fs_network &network, const uint8_t *times, int32_t *first_spike, int32_t *trace) {
  const Shape &shape = network.input;
  const int pixels = shape.height * shape.width;
  for (int64_t i = 0; i < shape.size(); ++i)
    if (times[i] > network.input_steps) return false;
  for (int c = 0; c < shape.channels; ++c)
    for (int i = 0; i < pixels; ++i)
      network.wide_input[static_cast<size_t>(i) * static_cast<size_t>(shape.channels) + static_cast<size_t>(c)] =
          static_cast<uint16_t>(network.input_steps - times[c * pixels + i]);
  const uint16_t *data = network.wide_input.data();
  for (Layer &layer : network.layers) {
    int32_t *potentials = &layer == &network.layers.back() ? network.outputs.data() : nullptr;
    uint16_t *output = layer.wide.data();
    if (layer.kind == Kind::maxpool) run_maxpool(layer, data, output);
    else if (layer.kind == Kind::conv) run_quartz(layer, network.scratch, data, output, potentials);
    else if (!layer.skipped) planes(layer.in, data, output, [](uint16_t a) { return a; });
    if (!layer.skipped) data = output;
    if (trace != nullptr) {
      planes(layer.skipped ? layer.in : layer.out, data, trace, [&](uint16_t a) { return layer.last - a; });
      trace += layer.out.size();
    }
  }
  const Layer &last = network.layers.back();
  planes(last.out, data, first_spike, [&](uint16_t a) { return last.last - a; });
  return true;
}

}  // namespace wide
