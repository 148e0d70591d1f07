// Running a network: the input's times to activations, layer after layer, and back to times.
#include "kernels.h"
#include "wide.h"

namespace {

#define FS_NETWORK_KERNELS(arch) {arch::read_times, arch::run_maxpool, arch::run_weighted}
constexpr Kernels kTables[] = FS_TABLES(FS_NETWORK_KERNELS);

// A plane's activations, by (channel, height, width).
template <typename To, typename Convert>
void each(const Plane &plane, const Shape &shape, To *to, Convert convert) {
  for (int c = 0; c < shape.channels; ++c)
    for (int y = 0; y < shape.height; ++y) {
      const uint8_t *row = plane.bytes.data() + plane.origin + y * plane.row + c;
      for (int x = 0; x < shape.width; ++x) *to++ = convert(row[int64_t{x} * shape.channels]);
    }
}

void run(fs_network &network, const Kernels &kernels, int32_t *first_spike, int32_t *trace) {
  const bool every = trace != nullptr;
  for (size_t i = 0; i < network.layers.size(); ++i) {
    Layer &layer = network.layers[i];
    if (layer.kind == Kind::conv) {
      const bool pooled = layer.pooled && !every;
      int32_t *potentials = i + 1 == network.layers.size() ? network.outputs.data() : nullptr;
      Plane &output = pooled ? network.layers[i + 1].output : layer.output;
      kernels.run_weighted(layer, network.quartz, pooled, network.scratch, output, potentials);
      i += pooled;
    } else if (layer.kind == Kind::maxpool) {
      kernels.run_maxpool(layer);
    } else if (!layer.skipped) {
      each(*layer.input, layer.in, layer.output.bytes.data() + layer.output.origin, [](uint8_t a) { return a; });
    }
    if (every) {
      const Plane &plane = layer.skipped ? *layer.input : layer.output;
      each(plane, layer.skipped ? layer.in : layer.out, trace, [&](uint8_t a) { return layer.last - a; });
      trace += layer.out.size();
    }
  }
  const Layer &last = network.layers.back();
  each(last.output, last.out, first_spike, [&](uint8_t a) { return last.last - a; });
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
  const bool read = network->wide ? wide::run(*network, times, first_spike, trace)
                                  : kernels.read_times(times, network->input, network->input_steps, network->input_plane);
  if (!read) {
    network->error = "an input spike comes after the input's last step";
    return FS_REFUSED;
  }
  if (!network->wide) run(*network, kernels, first_spike, trace);
  const Layer &last = network->layers.back();
  const int64_t pixels = int64_t{last.out.height} * last.out.width;
  for (int c = 0; c < last.out.channels; ++c)
    for (int64_t i = 0; i < pixels; ++i)
      *potential++ = network->outputs[static_cast<size_t>(i * last.lanes + c)];
  return FS_OK;
}
