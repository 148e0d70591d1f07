// The rate-coded baseline, step by step: runtime/firstspike/ttfs/rate.py says what it computes. A network of its own,
// beside the TTFS one, since nothing but the shape of its layers is the same.
//
// Tensors are (height, width, channels), so that the neurons at one place lie side by side, as in build.cpp. A spike is
// the index of its neuron. Each step a weighted layer adds the weights of the spikes that came in to its currents, and
// the currents to its potentials.
#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "firstspike.h"

namespace {

constexpr int64_t kMaxElements = 1 << 24, kMaxWeights = 1 << 30;
constexpr int32_t kLimit = (1 << 23) - 1;    // Loihi's 24 bits: where potentials stop
constexpr int64_t kMaxCurrent = 1 << 30;     // so that potential + current fits int32
constexpr int kMaxDuration = 4096;

struct Shape {
  int channels, height, width;
  int64_t size() const { return int64_t{channels} * height * width; }
};

struct Layer {
  fs_rate_layer spec{};
  Shape in{}, out{};
  std::vector<int8_t> weights;  // [kernel_y][kernel_x][in channel][out channel]
  std::vector<int32_t> bias;    // a current, for each output channel
  // State of one inference, one for each output neuron.
  std::vector<int32_t> constant;  // current that flows at every step: bias, and the input where it comes first
  std::vector<int32_t> current, potential, count;
  std::vector<uint8_t> fired;
  std::vector<int32_t> spikes;  // of this step
};

}  // namespace

struct fs_rate {
  Shape input{};
  int input_steps = 0, duration = 0;
  std::vector<Layer> layers;
  std::vector<int32_t> values, pooled;  // the input's activations, before the first weighted layer
  std::vector<int32_t> charge, first;   // of the last layer
};

namespace {

bool weighted(const Layer &layer) { return layer.spec.kind == FS_RATE_CONV || layer.spec.kind == FS_RATE_DENSE; }

void require(bool condition, const char *fault) {
  if (!condition) throw std::runtime_error(fault);
}

bool fits(const Shape &shape) {
  return shape.channels >= 1 && shape.height >= 1 && shape.width >= 1 && shape.channels <= kMaxElements &&
         int64_t{shape.height} * shape.width <= kMaxElements && shape.size() <= kMaxElements;
}

void take_weights(Layer &layer, int64_t full, bool last, int duration) {
  const fs_rate_layer &spec = layer.spec;
  const auto outs = static_cast<size_t>(layer.out.channels), ins = static_cast<size_t>(layer.in.channels);
  const auto taps = static_cast<size_t>(spec.kernel_y) * static_cast<size_t>(spec.kernel_x);
  require(int64_t{spec.kernel_y} * spec.kernel_x <= kMaxWeights / layer.in.channels / spec.outputs, "it has too many weights");
  require(spec.threshold >= 1 && spec.threshold <= kLimit, "its threshold must be 1 to 2^23 - 1");
  require(spec.start >= 0 && spec.start < spec.threshold, "it must start at 0 or above, and below its threshold");
  layer.weights.resize(taps * ins * outs);
  layer.bias.resize(outs);
  for (size_t o = 0; o < outs; ++o) {
    int64_t up = 0, down = 0;
    for (size_t i = 0; i < ins; ++i)
      for (size_t k = 0; k < taps; ++k) {
        const int8_t w = spec.weights[(o * ins + i) * taps + k];
        layer.weights[(k * ins + i) * outs + o] = w;
        (w > 0 ? up : down) += w;
      }
    const int64_t bias = int64_t{spec.bias[o]} * full;
    const int64_t most = std::max(up * full + std::max<int64_t>(bias, 0), -down * full - std::min<int64_t>(bias, 0));
    require(most * (last ? duration : 1) < kMaxCurrent, "its currents are too large: use smaller weights or fewer steps");
    layer.bias[o] = static_cast<int32_t>(bias);
  }
}

void add(fs_rate &network, const fs_rate_layer &spec, bool last) {
  Layer layer;
  layer.spec = spec;
  layer.in = network.layers.empty() ? network.input : network.layers.back().out;
  fs_rate_layer &own = layer.spec;
  if (own.kind == FS_RATE_FLATTEN) {
    layer.out = {static_cast<int>(layer.in.size()), 1, 1};
  } else {
    if (own.kind == FS_RATE_DENSE) {
      own.kernel_y = layer.in.height, own.kernel_x = layer.in.width;
      own.stride_y = own.stride_x = 1;
      own.padding_y = own.padding_x = 0;
    }
    require(own.kernel_y >= 1 && own.kernel_x >= 1 && own.stride_y >= 1 && own.stride_x >= 1, "kernel and stride must be 1 or more");
    require(own.padding_y >= 0 && own.padding_y < own.kernel_y && own.padding_x >= 0 && own.padding_x < own.kernel_x &&
                own.kernel_y <= layer.in.height + 2 * int64_t{own.padding_y} &&
                own.kernel_x <= layer.in.width + 2 * int64_t{own.padding_x},
            "its kernel does not fit its input and padding");
    layer.out = {weighted(layer) ? own.outputs : layer.in.channels,
                 (layer.in.height + 2 * own.padding_y - own.kernel_y) / own.stride_y + 1,
                 (layer.in.width + 2 * own.padding_x - own.kernel_x) / own.stride_x + 1};
  }
  require(fits(layer.out), "it has too many neurons");
  if (weighted(layer)) {
    const bool first = std::none_of(network.layers.begin(), network.layers.end(), weighted);
    take_weights(layer, first ? network.input_steps : 1, last, network.duration);
  }
  const auto size = static_cast<size_t>(layer.out.size());
  layer.constant.resize(size), layer.current.resize(size), layer.potential.resize(size), layer.count.resize(size);
  layer.fired.resize(size);
  layer.spikes.reserve(size);
  own.weights = nullptr, own.bias = nullptr;  // the caller's: not ours to keep
  network.layers.push_back(std::move(layer));
}

// Output positions along one axis whose windows hold an input: first to last, none if last < first.
struct Reach {
  int first, last;
  Reach(int at, int kernel, int stride, int padding, int outputs) {
    const int beyond = at + padding - kernel + 1;  // windows that begin before this do not reach it
    first = beyond <= 0 ? 0 : (beyond + stride - 1) / stride;
    last = std::min((at + padding) / stride, outputs - 1);
  }
};

// Adds `value` times the weights of the input at (y, x, c) to the currents it reaches.
void spread(const Layer &layer, int y, int x, int c, int32_t value, int32_t *current) {
  const fs_rate_layer &spec = layer.spec;
  const int outs = layer.out.channels;
  const Reach down(y, spec.kernel_y, spec.stride_y, spec.padding_y, layer.out.height);
  const Reach right(x, spec.kernel_x, spec.stride_x, spec.padding_x, layer.out.width);
  for (int oy = down.first; oy <= down.last; ++oy)
    for (int ox = right.first; ox <= right.last; ++ox) {
      const int ky = y + spec.padding_y - oy * spec.stride_y, kx = x + spec.padding_x - ox * spec.stride_x;
      const int64_t tap = (int64_t{ky} * spec.kernel_x + kx) * layer.in.channels + c;
      const int8_t *w = layer.weights.data() + tap * outs;
      int32_t *to = current + (int64_t{oy} * layer.out.width + ox) * outs;
      for (int o = 0; o < outs; ++o) to[o] += value * w[o];
    }
}

// The index of the same neuron after flattening, where channels come first.
int32_t flattened(const Shape &shape, int32_t index) {
  const int32_t c = index % shape.channels, place = index / shape.channels;
  return static_cast<int32_t>(int64_t{c} * shape.height * shape.width + place);
}

// Calls visit(output index) for every window of a pool that holds the input at (y, x, c).
template <typename Visit>
void windows(const Layer &layer, int y, int x, int c, Visit visit) {
  const fs_rate_layer &spec = layer.spec;
  const Reach down(y, spec.kernel_y, spec.stride_y, 0, layer.out.height);
  const Reach right(x, spec.kernel_x, spec.stride_x, 0, layer.out.width);
  for (int oy = down.first; oy <= down.last; ++oy)
    for (int ox = right.first; ox <= right.last; ++ox)
      visit((int64_t{oy} * layer.out.width + ox) * layer.out.channels + c);
}

// Calls take(y, x, c) for the neuron with that index.
template <typename Take>
void at(const Shape &shape, int32_t index, Take take) {
  const int32_t c = index % shape.channels, place = index / shape.channels;
  take(place / shape.width, place % shape.width, c);
}

// What flows at every step: the biases, and in the first weighted layer the input.
void prepare(fs_rate &network, const uint8_t *times) {
  std::vector<int32_t> &values = network.values;
  const Shape &shape = network.input;
  values.resize(static_cast<size_t>(shape.size()));
  for (int c = 0, i = 0; c < shape.channels; ++c)
    for (int place = 0; place < shape.height * shape.width; ++place, ++i)
      values[static_cast<size_t>(place) * static_cast<size_t>(shape.channels) + static_cast<size_t>(c)] =
          network.input_steps - times[i];
  bool analog = true;
  for (Layer &layer : network.layers) {
    std::fill(layer.count.begin(), layer.count.end(), 0);
    if (weighted(layer)) {
      const auto outs = static_cast<size_t>(layer.out.channels);
      for (size_t i = 0; i < layer.constant.size(); ++i) layer.constant[i] = layer.bias[i % outs];
      std::fill(layer.potential.begin(), layer.potential.end(), layer.spec.start);
    }
    if (!analog) continue;
    const auto size = static_cast<int32_t>(layer.in.size());
    std::vector<int32_t> &after = network.pooled;
    after.assign(static_cast<size_t>(layer.out.size()), 0);
    for (int32_t i = 0; i < size; ++i) {
      const int32_t value = values[static_cast<size_t>(i)];
      if (value == 0) continue;
      at(layer.in, i, [&](int y, int x, int c) {
        if (weighted(layer)) spread(layer, y, x, c, value, layer.constant.data());
        else if (layer.spec.kind == FS_RATE_FLATTEN) after[static_cast<size_t>(flattened(layer.in, i))] = value;
        else windows(layer, y, x, c, [&](int64_t o) { after[static_cast<size_t>(o)] = std::max(after[static_cast<size_t>(o)], value); });
      });
    }
    analog = !weighted(layer);
    if (analog) values.swap(after);
  }
}

// One step of a weighted layer; `spikes` are those of the layer before, none for the first, whose input is constant.
void integrate(Layer &layer, const std::vector<int32_t> *spikes) {
  const size_t n = layer.current.size();
  int32_t *current = layer.current.data(), *u = layer.potential.data(), *count = layer.count.data();
  uint8_t *fired = layer.fired.data();
  std::memcpy(current, layer.constant.data(), n * sizeof *current);
  if (spikes != nullptr)
    for (const int32_t spike : *spikes)
      at(layer.in, spike, [&](int y, int x, int c) { spread(layer, y, x, c, 1, current); });
  const int32_t threshold = layer.spec.threshold;
  for (size_t i = 0; i < n; ++i) {
    const int32_t now = std::min(std::max(u[i] + current[i], -kLimit), kLimit);
    fired[i] = now >= threshold;
    u[i] = now - (now >= threshold ? threshold : 0);
    count[i] += now >= threshold;
  }
  layer.spikes.clear();
  for (size_t i = 0; i < n; ++i)
    if (fired[i]) layer.spikes.push_back(static_cast<int32_t>(i));
}

// A pool spikes when the greatest count of its patch rises, so that its own count is that greatest count.
void pool(Layer &layer, const Layer &before) {
  layer.spikes.clear();
  for (const int32_t spike : before.spikes) {
    const int32_t count = before.count[static_cast<size_t>(spike)];
    at(layer.in, spike, [&](int y, int x, int c) {
      windows(layer, y, x, c, [&](int64_t o) {
        int32_t &own = layer.count[static_cast<size_t>(o)];
        if (count <= own) return;
        own = count;
        layer.spikes.push_back(static_cast<int32_t>(o));
      });
    });
  }
}

void flatten(Layer &layer, const Layer &before) {
  layer.spikes.clear();
  for (const int32_t spike : before.spikes) {
    const int32_t o = flattened(layer.in, spike);
    ++layer.count[static_cast<size_t>(o)];
    layer.spikes.push_back(o);
  }
}

// Every layer's counts, (channels, height, width).
void write_counts(const fs_rate &network, int32_t *to) {
  for (const Layer &layer : network.layers) {
    const int places = layer.out.height * layer.out.width;
    for (int c = 0; c < layer.out.channels; ++c)
      for (int place = 0; place < places; ++place)
        *to++ = layer.count[static_cast<size_t>(place) * static_cast<size_t>(layer.out.channels) + static_cast<size_t>(c)];
  }
}

}  // namespace

extern "C" {

fs_rate *fs_rate_new(int channels, int height, int width, int input_steps, int duration, const fs_rate_layer *layers, int n,
                     char *error, int room) {
  std::string fault;
  try {
    fault = "the network: ";
    auto network = std::make_unique<fs_rate>();
    network->input = {channels, height, width};
    network->input_steps = input_steps, network->duration = duration;
    require(fits(network->input) && input_steps >= 1 && input_steps <= 255, "its input is not allowed");
    require(duration >= 1 && duration <= kMaxDuration, "its duration must be 1 to 4096 steps");
    require(n >= 1, "it has no layers");
    for (int i = 0; i < n; ++i) {
      fault = "layer " + std::to_string(i) + ": ";
      add(*network, layers[i], i == n - 1);
    }
    require(weighted(network->layers.back()), "the last layer must be weighted");
    network->charge.resize(static_cast<size_t>(network->layers.back().out.size()));
    network->first.resize(network->charge.size());
    return network.release();
  } catch (const std::exception &caught) {
    fault += caught.what();
  }
  std::strncpy(error, fault.c_str(), static_cast<size_t>(room) - 1);
  error[room - 1] = 0;
  return nullptr;
}

void fs_rate_free(fs_rate *network) { delete network; }

int fs_rate_run(fs_rate *network, const uint8_t *times, int32_t *potential, int32_t *first_spike, int32_t *counts) {
  const int64_t size = network->input.size();
  if (*std::max_element(times, times + size) > network->input_steps) return FS_REFUSED;
  prepare(*network, times);
  std::vector<Layer> &layers = network->layers;
  std::fill(network->charge.begin(), network->charge.end(), 0);
  std::fill(network->first.begin(), network->first.end(), network->duration);
  for (int t = 0; t < network->duration; ++t) {
    const Layer *before = nullptr;  // the layer whose spikes go on: none before the first weighted one
    for (Layer &layer : layers) {
      if (weighted(layer)) integrate(layer, before != nullptr ? &before->spikes : nullptr);
      else if (before != nullptr && layer.spec.kind == FS_RATE_MAXPOOL) pool(layer, *before);
      else if (before != nullptr) flatten(layer, *before);
      if (weighted(layer) || before != nullptr) before = &layer;
    }
    const Layer &last = layers.back();
    for (size_t i = 0; i < network->charge.size(); ++i) network->charge[i] += last.current[i];
    for (const int32_t spike : last.spikes)
      network->first[static_cast<size_t>(spike)] = std::min(network->first[static_cast<size_t>(spike)], t);
  }
  const Shape &out = layers.back().out;
  for (int c = 0, i = 0; c < out.channels; ++c)
    for (int place = 0; place < out.height * out.width; ++place, ++i) {
      const auto at_place = static_cast<size_t>(place) * static_cast<size_t>(out.channels) + static_cast<size_t>(c);
      potential[i] = network->charge[at_place];
      first_spike[i] = network->first[at_place];
    }
  if (counts != nullptr) write_counts(*network, counts);
  return FS_OK;
}

}  // extern "C"
