// Running a network: the input's times to activations, layer after layer, and back to times.
#include "network.h"

#include <algorithm>

#include "clones.h"

namespace {

// (channels, height, width) times to (height, width, channels) activations; false if a time is after the last step.
FS_CLONES bool read_times(const uint8_t *times, Shape shape, int steps, uint16_t *activations) {
  const int pixels = shape.height * shape.width, channels = shape.channels;
  int latest = 0;
  for (int c = 0; c < channels; ++c)
    for (int i = 0; i < pixels; ++i) {
      const int time = times[c * pixels + i];
      latest = time > latest ? time : latest;
      activations[i * channels + c] = static_cast<uint16_t>(steps - time);
    }
  return latest <= steps;
}

// The first spike of each patch: the greatest activation.
FS_CLONES void run_maxpool(const Layer &layer, const uint16_t *input, uint16_t *output) {
  const int channels = layer.in.channels;
  for (int y = 0; y < layer.out.height; ++y)
    for (int x = 0; x < layer.out.width; ++x) {
      uint16_t *out = output + (int64_t{y} * layer.out.width + x) * channels;
      std::fill(out, out + channels, uint16_t{0});
      for (int ky = 0; ky < layer.kernel_y; ++ky)
        for (int kx = 0; kx < layer.kernel_x; ++kx) {
          const int64_t pixel = int64_t{y * layer.stride_y + ky} * layer.in.width + x * layer.stride_x + kx;
          const uint16_t *in = input + pixel * channels;
          for (int c = 0; c < channels; ++c) out[c] = out[c] < in[c] ? in[c] : out[c];
        }
    }
}

// (height, width, channels) to (channels, height, width).
template <typename From, typename To, typename Convert>
void planes(const Shape &shape, int stride, const From *from, To *to, Convert convert) {
  const int64_t pixels = int64_t{shape.height} * shape.width;
  for (int c = 0; c < shape.channels; ++c)
    for (int64_t i = 0; i < pixels; ++i) *to++ = convert(from[i * stride + c]);
}

void write_steps(const Shape &shape, int last, const uint16_t *activations, int32_t *steps) {
  planes(shape, shape.channels, activations, steps, [last](uint16_t a) { return last - a; });
}

}  // namespace

extern "C" int fs_network_run(fs_network *network, const uint8_t *times, int32_t *potential, int32_t *first_spike,
                              int32_t *trace) {
  if (!network->finished) {
    network->error = "the network is not finished";
    return FS_REFUSED;
  }
  if (!read_times(times, network->input, network->input_steps, network->input_activations.data())) {
    network->error = "an input spike comes after the input's last step";
    return FS_REFUSED;
  }
  const uint16_t *data = network->input_activations.data();
  for (Layer &layer : network->layers) {
    int32_t *outputs = &layer == &network->layers.back() ? network->outputs.data() : nullptr;
    if (layer.kind == Kind::maxpool) run_maxpool(layer, data, layer.activations.data());
    else if (layer.kind == Kind::flatten && !layer.skipped)
      planes(layer.in, layer.in.channels, data, layer.activations.data(), [](uint16_t a) { return a; });
    else if (layer.kind == Kind::conv && network->quartz) run_quartz(*network, layer, data, outputs);
    else if (layer.kind == Kind::conv) run_gated(*network, layer, data, outputs);
    if (!layer.skipped) data = layer.activations.data();
    if (trace != nullptr) {
      write_steps(layer.skipped ? layer.in : layer.out, layer.last, data, trace);
      trace += layer.out.size();
    }
  }
  const Layer &last = network->layers.back();
  planes(last.out, last.lanes, network->outputs.data(), potential, [](int32_t u) { return u; });
  write_steps(last.out, last.last, data, first_spike);
  return FS_OK;
}
