// The gated neuron: it cannot spike before its readout, so a layer is integer arithmetic on activations, and silent
// inputs cost nothing. Outputs of one pixel are accumulated in registers over the events of its receptive field.
#include <algorithm>
#include <cstring>

#include "clones.h"
#include "network.h"

namespace {

using Potentials = int32_t __attribute__((vector_size(kLanes * 4)));
using Weights = int8_t __attribute__((vector_size(kLanes)));

// The layer's inputs that are not silent, in order of row, x, channel, and where each pixel's begin.
FS_INLINE void list_events(const uint16_t *input, const Shape &shape, Event *events, int32_t *row_start) {
  int32_t n = 0;
  for (int y = 0; y < shape.height; ++y) {
    for (int x = 0; x < shape.width; ++x) {
      *row_start++ = n;
      for (int c = 0; c < shape.channels; ++c) {
        events[n] = {x * shape.channels + c, *input};
        n += *input++ != 0;
      }
    }
    *row_start++ = n;
  }
}

// `Blocks` vectors of output channels from `lane` on, for all pixels.
template <int Blocks>
FS_INLINE void accumulate(Layer &layer, const Event *events, const int32_t *row_start, int lane, int32_t *outputs) {
  const int channels = layer.in.channels, lanes = layer.lanes;
  const int8_t *weights = layer.weights.data() + lane;
  const int in_steps = layer.end - layer.start;
  const float ramp_f = static_cast<float>(layer.ramp);
  const int used = std::min(Blocks * kLanes, layer.out.channels - lane);
  Potentials bias[Blocks];
  std::memcpy(bias, layer.bias.data() + lane, sizeof bias);
  for (auto &b : bias) b *= in_steps;
  for (int y = 0; y < layer.out.height; ++y) {
    const int top = y * layer.stride_y - layer.padding_y;
    const int ky_first = std::max(-top, 0), ky_end = std::min(layer.kernel_y, layer.in.height - top);
    for (int x = 0; x < layer.out.width; ++x) {
      const int left = x * layer.stride_x - layer.padding_x;
      const int x_first = std::max(left, 0), x_end = std::min(left + layer.kernel_x, layer.in.width);
      Potentials u[Blocks];
      for (int k = 0; k < Blocks; ++k) u[k] = bias[k];
      for (int ky = ky_first; ky < ky_end; ++ky) {
        const int32_t *row = row_start + int64_t{top + ky} * (layer.in.width + 1);
        // Within a row of the kernel, weights and events lie in the same order: (x, channel).
        const int64_t base = (int64_t{ky} * layer.kernel_x - left) * channels;
        for (int32_t e = row[x_first]; e < row[x_end]; ++e) {
          const int8_t *w = weights + (base + events[e].at) * lanes;
          for (int k = 0; k < Blocks; ++k) {
            Weights block;
            std::memcpy(&block, w + k * kLanes, sizeof block);
            u[k] += __builtin_convertvector(block, Potentials) * events[e].a;
          }
        }
      }
      const int64_t pixel = int64_t{y} * layer.out.width + x;
      if (outputs != nullptr) std::memcpy(outputs + pixel * lanes + lane, u, sizeof u);
      int32_t potentials[Blocks * kLanes];
      std::memcpy(potentials, u, sizeof u);
      uint16_t *activations = layer.activations.data() + pixel * layer.out.channels + lane;
      for (int k = 0; k < used; ++k)
        activations[k] =
            static_cast<uint16_t>(readout(potentials[k], layer.rounding, layer.ramp, ramp_f, layer.steps));
    }
  }
}

FS_CLONES void run(fs_network &network, Layer &layer, const uint16_t *input, int32_t *outputs) {
  Event *events = network.events.data();
  int32_t *row_start = network.row_start.data();
  list_events(input, layer.in, events, row_start);
  int lane = 0;
  for (; layer.lanes - lane >= 4 * kLanes; lane += 4 * kLanes) accumulate<4>(layer, events, row_start, lane, outputs);
  switch ((layer.lanes - lane) / kLanes) {
    case 3: return accumulate<3>(layer, events, row_start, lane, outputs);
    case 2: return accumulate<2>(layer, events, row_start, lane, outputs);
    case 1: return accumulate<1>(layer, events, row_start, lane, outputs);
    default: return;
  }
}

}  // namespace

void run_gated(fs_network &network, Layer &layer, const uint16_t *input, int32_t *outputs) {
  run(network, layer, input, outputs);
}
