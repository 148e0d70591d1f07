// Building a network: every parameter checked, every buffer allocated, so that running can do neither wrong.
#include <algorithm>
#include <new>
#include <stdexcept>

#include "arrange.h"

namespace {

constexpr int64_t kMaxElements = 1 << 24;      // neurons of a layer
constexpr int64_t kMaxWeights = 1 << 30;       // padded
constexpr int64_t kPotentialLimit = 1 << 23;   // Loihi's 24 bits; int32 arithmetic has room to spare
constexpr int kMaxLast = 0xffff;               // a wide network's activations are uint16

struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void require(bool condition, const char *fault) {
  if (!condition) throw Refused(fault);
}

// Runs `build`; what it throws becomes a code and a message that names the layer.
template <typename Build>
int guarded(fs_network *network, Build build) {
  try {
    require(!network->finished, "the network is finished");
    build();
    return FS_OK;
  } catch (const std::bad_alloc &) {
    network->error = "out of memory";
    return FS_NO_MEMORY;
  } catch (const std::exception &fault) {
    network->error = "layer " + std::to_string(network->layers.size()) + ": " + fault.what();
    return FS_REFUSED;
  }
}

bool fits(const Shape &shape) {
  return shape.channels >= 1 && shape.height >= 1 && shape.width >= 1 && shape.channels <= kMaxElements &&
         shape.height <= kMaxElements && shape.width <= kMaxElements &&
         int64_t{shape.height} * shape.width <= kMaxElements && shape.size() <= kMaxElements;
}

Shape shape_at_end(const fs_network &network) {
  return network.layers.empty() ? network.input : network.layers.back().out;
}

void set_frame(const fs_network &network, Layer &layer) {
  layer.start = network.layers.empty() ? 0 : network.layers.back().start;
  layer.end = layer.last = network.layers.empty() ? network.input_steps : network.layers.back().last;
  if (!network.layers.empty() && network.layers.back().steps > 0) layer.start = network.layers.back().end;
}

int outputs_along(int side, int kernel, int stride, int padding) { return (side + 2 * padding - kernel) / stride + 1; }

void check_window(const Layer &layer) {
  require(layer.kernel_y >= 1 && layer.kernel_x >= 1 && layer.stride_y >= 1 && layer.stride_x >= 1,
          "kernel and stride must be at least 1");
  require(layer.padding_y >= 0 && layer.padding_y < layer.kernel_y && layer.padding_x >= 0 &&
              layer.padding_x < layer.kernel_x && layer.kernel_y <= kMaxElements && layer.kernel_x <= kMaxElements,
          "padding must be smaller than the kernel");
  require(layer.kernel_y <= layer.in.height + 2 * layer.padding_y && layer.kernel_x <= layer.in.width + 2 * layer.padding_x,
          "the kernel is larger than its input");
}

// The same bound as in runtime/firstspike/ttfs/limits.py: returns the first step at which a neuron could spike.
int check_potential(const fs_network &network, const Layer &layer, int earliest_input) {
  const int64_t theta = layer.threshold();
  const size_t inputs = layer.weights.size() / static_cast<size_t>(layer.lanes);
  int first = layer.end;
  for (size_t o = 0; o < static_cast<size_t>(layer.out.channels); ++o) {
    int64_t excitation = 0, inhibition = 0;
    for (size_t i = 0; i < inputs; ++i) {
      const int64_t w = layer.weights[i * static_cast<size_t>(layer.lanes) + o];
      (w > 0 ? excitation : inhibition) += w;
    }
    const int64_t b = layer.bias[o], b_up = std::max<int64_t>(b, 0), b_down = std::min<int64_t>(b, 0);
    const auto highest = [&](int t) {
      return excitation * (t - earliest_input) + b_up * std::max(t - layer.start, 0);
    };
    const int64_t lowest = inhibition * (layer.end - earliest_input) + b_down * (layer.end - layer.start);
    require(highest(layer.end) < kPotentialLimit && -lowest < kPotentialLimit && theta + layer.ramp <= kPotentialLimit,
            "its potential can leave 24 bits: use smaller weights, a smaller ramp or fewer steps");
    if (!network.quartz) continue;
    int low = earliest_input, high = first;
    while (low < high) {
      const int middle = low + (high - low) / 2;
      if (highest(middle) >= theta) high = middle;
      else low = middle + 1;
    }
    first = low;
  }
  return first;
}

// Earliest spike that the layer after the present last one can receive.
int earliest_spike(const fs_network &network) {
  for (auto layer = network.layers.rbegin(); layer != network.layers.rend(); ++layer)
    if (layer->steps > 0) return layer->earliest_output;
  return 0;
}

// Adds a convolution. `weights` are (outputs, channels, kernel_y, kernel_x), which for a dense layer over a whole input
// is also (outputs, channels * height * width).
void add_weighted(fs_network &network, Layer layer, const int8_t *weights, const int16_t *bias, int outputs) {
  check_window(layer);
  layer.kind = Kind::conv;
  layer.out = {outputs, outputs_along(layer.in.height, layer.kernel_y, layer.stride_y, layer.padding_y),
               outputs_along(layer.in.width, layer.kernel_x, layer.stride_x, layer.padding_x)};
  require(fits(layer.out), "it has too many neurons");
  require(layer.steps >= 1 && layer.steps <= 255, "steps must be 1 to 255");
  require(layer.ramp >= 1 && int64_t{layer.ramp} * layer.steps < kPotentialLimit, "ramp is below 1 or too large");
  require(layer.rounding >= 0 && layer.rounding < layer.ramp, "rounding must be at least 0 and below ramp");
  set_frame(network, layer);
  layer.last = layer.end + layer.steps;
  require(layer.last <= kMaxLast, "the network takes too many steps");
  layer.lanes = outputs <= kLanes / 2 ? kLanes / 2 : (outputs + kLanes - 1) / kLanes * kLanes;
  const int64_t kernel = int64_t{layer.kernel_y} * layer.kernel_x;
  require(kernel <= kMaxWeights / layer.in.channels && kernel * layer.in.channels <= kMaxWeights / layer.lanes,
          "it has too many weights");
  require(int64_t{layer.in.width} * layer.in.channels <= kMaxWeights / layer.lanes, "its input's rows are too long");
  require(int64_t{layer.out.height} * layer.out.width * layer.lanes <= kMaxWeights, "it has too many neurons");

  const size_t lanes = static_cast<size_t>(layer.lanes), channels = static_cast<size_t>(layer.in.channels);
  const size_t taps = static_cast<size_t>(kernel);
  layer.weights.assign(taps * channels * lanes, 0);
  layer.bias.assign(lanes, 0);
  for (size_t o = 0; o < static_cast<size_t>(outputs); ++o) {
    layer.bias[o] = bias[o];
    for (size_t c = 0; c < channels; ++c)
      for (size_t k = 0; k < taps; ++k)
        layer.weights[(k * channels + c) * lanes + o] = weights[(o * channels + c) * taps + k];
  }
  const int earliest_input = earliest_spike(network);
  layer.greatest_input = layer.end - earliest_input;
  layer.earliest_output = check_potential(network, layer, earliest_input);
  network.layers.push_back(std::move(layer));
}

}  // namespace

extern "C" {

fs_network *fs_network_new(int quartz, int channels, int height, int width, int input_steps) {
  const Shape input{channels, height, width};
  if (!fits(input) || input_steps < 1 || input_steps > 255) return nullptr;
  auto *network = new (std::nothrow) fs_network;
  if (network == nullptr) return nullptr;
  network->quartz = quartz != 0;
  network->input = input;
  network->input_steps = input_steps;
  return network;
}

void fs_network_free(fs_network *network) { delete network; }

const char *fs_network_error(const fs_network *network) { return network->error.c_str(); }

int fs_network_add_conv(fs_network *network, const int8_t *weights, const int16_t *bias, int outputs, int kernel_height,
                        int kernel_width, int stride_y, int stride_x, int padding_y, int padding_x, int steps, int ramp,
                        int rounding) {
  return guarded(network, [&] {
    Layer layer{};
    layer.in = shape_at_end(*network);
    layer.kernel_y = kernel_height, layer.kernel_x = kernel_width;
    layer.stride_y = stride_y, layer.stride_x = stride_x;
    layer.padding_y = padding_y, layer.padding_x = padding_x;
    layer.steps = steps, layer.ramp = ramp, layer.rounding = rounding;
    require(outputs >= 1, "it has no outputs");
    add_weighted(*network, std::move(layer), weights, bias, outputs);
  });
}

int fs_network_add_dense(fs_network *network, const int8_t *weights, const int16_t *bias, int outputs, int steps, int ramp,
                         int rounding) {
  return guarded(network, [&] {
    Layer layer{};
    // A dense layer reads what comes before a flatten directly, in the other order of its weights.
    const bool flattened = !network->layers.empty() && network->layers.back().kind == Kind::flatten;
    layer.in = flattened ? network->layers.back().in : shape_at_end(*network);
    layer.kernel_y = layer.in.height, layer.kernel_x = layer.in.width;
    layer.stride_y = layer.stride_x = 1;
    layer.steps = steps, layer.ramp = ramp, layer.rounding = rounding;
    require(outputs >= 1, "it has no outputs");
    add_weighted(*network, std::move(layer), weights, bias, outputs);
    if (flattened) network->layers[network->layers.size() - 2].skipped = true;
  });
}

int fs_network_add_maxpool(fs_network *network, int kernel_height, int kernel_width, int stride_y, int stride_x) {
  return guarded(network, [&] {
    Layer layer{};
    layer.kind = Kind::maxpool;
    layer.in = shape_at_end(*network);
    layer.kernel_y = kernel_height, layer.kernel_x = kernel_width;
    layer.stride_y = stride_y, layer.stride_x = stride_x;
    check_window(layer);
    layer.out = {layer.in.channels, outputs_along(layer.in.height, kernel_height, stride_y, 0),
                 outputs_along(layer.in.width, kernel_width, stride_x, 0)};
    set_frame(*network, layer);
      network->layers.push_back(std::move(layer));
  });
}

int fs_network_add_flatten(fs_network *network) {
  return guarded(network, [&] {
    Layer layer{};
    layer.kind = Kind::flatten;
    layer.in = shape_at_end(*network);
    layer.out = {static_cast<int>(layer.in.size()), 1, 1};
    set_frame(*network, layer);
      network->layers.push_back(std::move(layer));
  });
}

int fs_network_finish(fs_network *network) {
  return guarded(network, [&] {
    require(!network->layers.empty() && network->layers.back().steps > 0, "the last layer must be weighted");
    arrange(*network);
    network->finished = true;
  });
}

}  // extern "C"
