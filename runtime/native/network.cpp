// Running a network: the input's times to activations, layer after layer, and back to times.
#include "kernels.h"

namespace {

#define FS_NETWORK_KERNELS(arch) {arch::read_times, arch::run_maxpool, arch::run_gated, arch::run_quartz}
constexpr Kernels kTables[] = FS_TABLES(FS_NETWORK_KERNELS);

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

extern "C" int fs_network_kernels(fs_network *network, int level) {
  const Kernels *kernels = kernels_of(kTables, level);
  if (kernels == nullptr) {
    network->error = "this machine or this build has no kernels of that level";
    return FS_REFUSED;
  }
  network->kernels = kernels;
  return FS_OK;
}

extern "C" int fs_network_run(fs_network *network, const uint8_t *times, int32_t *potential, int32_t *first_spike,
                              int32_t *trace) {
  if (network->kernels == nullptr) fs_network_kernels(network, FS_KERNELS_BEST);
  if (!network->finished) {
    network->error = "the network is not finished";
    return FS_REFUSED;
  }
  const Kernels &kernels = *network->kernels;
  if (!kernels.read_times(times, network->input, network->input_steps, network->input_activations.data())) {
    network->error = "an input spike comes after the input's last step";
    return FS_REFUSED;
  }
  const uint16_t *data = network->input_activations.data();
  for (Layer &layer : network->layers) {
    int32_t *potentials = &layer == &network->layers.back() ? network->outputs.data() : nullptr;
    uint16_t *output = layer.activations.data();
    if (layer.kind == Kind::maxpool) kernels.run_maxpool(layer, data, output);
    else if (layer.kind == Kind::flatten && !layer.skipped)
      planes(layer.in, layer.in.channels, data, output, [](uint16_t a) { return a; });
    else if (layer.kind == Kind::conv)
      (network->quartz ? kernels.run_quartz : kernels.run_gated)(layer, network->scratch, data, output, potentials);
    if (!layer.skipped) data = output;
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
