// The gated neuron: it cannot spike before its readout, so a layer is integer arithmetic on activations, and silent
// inputs cost nothing. Outputs of one pixel are accumulated in registers over the events of its receptive field.
#include "lanes.h"

namespace FS_ARCH {
namespace {

// The layer's inputs that are not silent, in order of row, x, channel, and where each pixel's begin.
FS_INLINE void list_events(const uint16_t *input, const Layer &layer, Event *events, int32_t *row_start) {
  const Shape &shape = layer.in;
  int32_t n = 0;
  for (int y = 0; y < shape.height; ++y) {
    for (int at = 0, x = 0; x < shape.width; ++x) {
      *row_start++ = n;
      for (int c = 0; c < shape.channels; ++c) {
        events[n] = {at, *input};
        at += layer.lanes;
        n += *input++ != 0;
      }
    }
    *row_start++ = n;
  }
}

// `Blocks` vectors of output channels from `lane` on, for all pixels.
template <int Blocks>
FS_INLINE void accumulate(const Layer &layer, const Event *events, const int32_t *row_start, int lane, uint16_t *output,
                          int32_t *potentials) {
  const int channels = layer.in.channels, lanes = layer.lanes, outputs = layer.out.channels;
  const int8_t *weights = &layer.weights[0] + lane;
  const int used = least(Blocks * kVector, outputs - lane);
  Lanes bias[Blocks];
  for (int k = 0; k < Blocks; ++k) bias[k] = load(&layer.bias[0] + lane + k * kVector) * (layer.end - layer.start);
  for (int y = 0; y < layer.out.height; ++y) {
    const int top = y * layer.stride_y - layer.padding_y;
    const int ky_first = greatest(-top, 0), ky_end = least(layer.kernel_y, layer.in.height - top);
    for (int x = 0; x < layer.out.width; ++x) {
      const int left = x * layer.stride_x - layer.padding_x;
      const int x_first = greatest(left, 0), x_end = least(left + layer.kernel_x, layer.in.width);
      Lanes u[Blocks];
      for (int k = 0; k < Blocks; ++k) u[k] = bias[k];
      for (int ky = ky_first; ky < ky_end; ++ky) {
        const int32_t *row = row_start + int64_t{top + ky} * (layer.in.width + 1);
        // Within a row of the kernel, weights and events lie in the same order: (x, channel).
        const int64_t base = (int64_t{ky} * layer.kernel_x - left) * channels * lanes;
        const Event *end = events + row[x_end];
        for (const Event *e = events + row[x_first]; e != end; ++e) {
          const int8_t *w = weights + base + e->at;
          for (int k = 0; k < Blocks; ++k) u[k] += widen(w + k * kVector) * e->a;
        }
      }
      const int64_t pixel = int64_t{y} * layer.out.width + x;
      if (potentials != nullptr) __builtin_memcpy(potentials + pixel * lanes + lane, u, sizeof u);
      int32_t flat[Blocks * kVector];
      __builtin_memcpy(flat, u, sizeof u);
      uint16_t activations[Blocks * kVector];
      for (int i = 0; i < Blocks * kVector; ++i) activations[i] = static_cast<uint16_t>(readout(flat[i], layer));
      uint16_t *to = output + pixel * outputs + lane;
      if (used == Blocks * kVector) __builtin_memcpy(to, activations, sizeof activations);
      else
        for (int i = 0; i < used; ++i) to[i] = activations[i];
    }
  }
}

}  // namespace

void run_gated(const Layer &layer, Scratch &scratch, const uint16_t *input, uint16_t *output, int32_t *potentials) {
  Event *events = &scratch.events[0];
  int32_t *row_start = &scratch.row_start[0];
  list_events(input, layer, events, row_start);
  for (int lane = 0; lane < layer.lanes;) {
    const int blocks = (layer.lanes - lane) / kVector, taken = blocks >= 8 ? 8 : blocks >= 4 ? 4 : blocks;
    switch (taken) {
      case 8: accumulate<8>(layer, events, row_start, lane, output, potentials); break;
      case 4: accumulate<4>(layer, events, row_start, lane, output, potentials); break;
      case 3: accumulate<3>(layer, events, row_start, lane, output, potentials); break;
      case 2: accumulate<2>(layer, events, row_start, lane, output, potentials); break;
      default: accumulate<1>(layer, events, row_start, lane, output, potentials); break;
    }
    lane += taken * kVector;
  }
}

}  // namespace FS_ARCH
