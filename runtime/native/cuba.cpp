// Networks of CUBA LIF neurons, step by step: runtime/firstspike/cuba/definition.py says what they compute.
//
// Tensors are (height, width, channels), so that the neurons at one place lie side by side. A spike is the index of its
// neuron. Each step a layer adds the weights of the spikes that came in to its neurons' inputs, kernel row by kernel row,
// and updates the places that anything ever reached: what is at rest stays at rest, and event cameras leave most of the
// field alone.
#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "firstspike.h"

// The steps are compiled for wider vectors too, and the loader takes what the machine has.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define WIDE __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define WIDE
#endif
#define INLINE __attribute__((always_inline)) inline

namespace {

constexpr int64_t kMaxElements = 1 << 24, kMaxWeights = 1 << 26, kMaxInput = 1 << 18;
constexpr int32_t kLimit = 1 << 23;  // Loihi's 24 bits
constexpr int kMaxDelay = 62, kMaxSteps = 4096;

struct Shape {
  int channels, height, width;
  int64_t size() const { return int64_t{channels} * height * width; }
};

struct Layer {
  fs_cuba_layer spec{};
  Shape in{}, out{};
  std::vector<int16_t> weights;  // conv: [kernel_y][in][kernel_x, last first][out]; pool: [kernel_y][kernel_x]
  std::vector<int32_t> bias;     // for each output channel, in units of the voltage; empty if there is none
  std::vector<uint8_t> delay;    // for each output; empty if there is none
  // State of one sample. `input` is 0 between steps.
  std::vector<int32_t> input, current, voltage, late;  // late: [step modulo kMaxDelay + 1][out]
  std::vector<uint8_t> reached, fired;                 // reached: for each place
  std::vector<int32_t> spikes;                         // of this step
};

}  // namespace

struct fs_cuba {
  Shape input{};
  std::vector<Layer> layers;
  std::vector<int32_t> spikes;  // of the input, of this step
};

namespace {

bool has_neurons(const Layer &layer) { return layer.spec.kind != FS_CUBA_FLATTEN; }

void require(bool condition, const char *fault) {
  if (!condition) throw std::runtime_error(fault);
}

bool fits(const Shape &shape) {
  return shape.channels >= 1 && shape.height >= 1 && shape.width >= 1 && shape.channels <= kMaxElements &&
         int64_t{shape.height} * shape.width <= kMaxElements && shape.size() <= kMaxElements;
}

// No step may add more than kMaxInput, or one wrap would not bring a current back.
void check_sum(const int16_t *weights, size_t n) {
  int64_t up = 0, down = 0;
  for (size_t i = 0; i < n; ++i) (weights[i] > 0 ? up : down) += weights[i];
  require(std::max(up, -down) <= kMaxInput, "the weights of a neuron add up to more than 2^18");
}

void take_weights(Layer &layer) {
  const fs_cuba_layer &spec = layer.spec;
  const auto ky = static_cast<size_t>(spec.kernel_y), kx = static_cast<size_t>(spec.kernel_x), taps = ky * kx;
  require(spec.threshold >= 1 && spec.threshold < (1 << 17), "its threshold must be 1 to 2^17 - 1");
  require(spec.current_decay >= 0 && spec.current_decay <= 4096, "its current's decay must be 0 to 4096");
  require(spec.voltage_decay >= 0 && spec.voltage_decay <= 4095, "its voltage's decay must be 0 to 4095");
  if (spec.kind == FS_CUBA_POOL) {
    layer.weights.assign(spec.weights, spec.weights + taps);
    check_sum(spec.weights, taps);
    return;
  }
  const auto outs = static_cast<size_t>(spec.outputs), ins = static_cast<size_t>(layer.in.channels);
  require(int64_t{spec.kernel_y} * spec.kernel_x <= kMaxWeights / layer.in.channels / spec.outputs, "it has too many weights");
  layer.weights.resize(taps * ins * outs);
  for (size_t o = 0; o < outs; ++o) {
    check_sum(spec.weights + o * ins * taps, ins * taps);
    for (size_t i = 0; i < ins; ++i)
      for (size_t y = 0; y < ky; ++y)
        for (size_t x = 0; x < kx; ++x)
          layer.weights[((y * ins + i) * kx + (kx - 1 - x)) * outs + o] = spec.weights[((o * ins + i) * ky + y) * kx + x];
  }
  if (std::any_of(spec.bias, spec.bias + outs, [](int16_t b) { return b != 0; }))
    for (size_t o = 0; o < outs; ++o) {
      require(spec.bias[o] >= -4096 && spec.bias[o] <= 4095, "its biases must be -4096 to 4095");
      layer.bias.push_back(spec.bias[o] * 64);
    }
  if (spec.delay != nullptr && std::any_of(spec.delay, spec.delay + outs, [](uint8_t d) { return d != 0; })) {
    require(layer.in.height == 1 && layer.in.width == 1, "only dense layers have delays");
    layer.delay.assign(spec.delay, spec.delay + outs);
    require(*std::max_element(layer.delay.begin(), layer.delay.end()) <= kMaxDelay, "its delays must be 0 to 62");
    layer.late.resize((kMaxDelay + 1) * outs);
  }
}

void add(fs_cuba &network, const fs_cuba_layer &spec) {
  Layer layer;
  layer.spec = spec;
  layer.in = network.layers.empty() ? network.input : network.layers.back().out;
  fs_cuba_layer &own = layer.spec;
  if (own.kind == FS_CUBA_FLATTEN) {
    layer.out = {static_cast<int>(layer.in.size()), 1, 1};
  } else {
    require(own.kind == FS_CUBA_CONV || own.kind == FS_CUBA_POOL, "it is of no known kind");
    require(own.kernel_y >= 1 && own.kernel_x >= 1 && own.stride_y >= 1 && own.stride_x >= 1, "kernel and stride must be 1 or more");
    require(own.padding_y >= 0 && own.padding_y < own.kernel_y && own.padding_x >= 0 && own.padding_x < own.kernel_x &&
                own.kernel_y <= layer.in.height + 2 * int64_t{own.padding_y} &&
                own.kernel_x <= layer.in.width + 2 * int64_t{own.padding_x},
            "its kernel does not fit its input and padding");
    require(own.kind == FS_CUBA_POOL || own.outputs >= 1, "it has no outputs");
    layer.out = {own.kind == FS_CUBA_POOL ? layer.in.channels : own.outputs,
                 (layer.in.height + 2 * own.padding_y - own.kernel_y) / own.stride_y + 1,
                 (layer.in.width + 2 * own.padding_x - own.kernel_x) / own.stride_x + 1};
  }
  require(fits(layer.out), "it has too many neurons");
  const auto size = static_cast<size_t>(layer.out.size());
  if (has_neurons(layer)) {
    take_weights(layer);
    layer.input.resize(size), layer.current.resize(size), layer.voltage.resize(size), layer.fired.resize(size);
    layer.reached.resize(static_cast<size_t>(layer.out.height) * static_cast<size_t>(layer.out.width));
  }
  layer.spikes.reserve(size);
  own.weights = nullptr, own.bias = nullptr, own.delay = nullptr;  // the caller's: not ours to keep
  network.layers.push_back(std::move(layer));
}

// Output positions along one axis whose windows hold an input: first to last, none if last < first.
struct Reach {
  int first, last;
  INLINE Reach(int at, int kernel, int stride, int padding, int outputs) {
    const int beyond = at + padding - kernel + 1;  // windows that begin before this do not reach it
    first = beyond <= 0 ? 0 : (beyond + stride - 1) / stride;
    last = std::min((at + padding) / stride, outputs - 1);
  }
};

INLINE void add_run(int32_t *to, const int16_t *w, int n) {
  for (int i = 0; i < n; ++i) to[i] += w[i];
}

// Adds the weights of the input at (y, x, c) to the neurons it reaches.
INLINE void spread(Layer &layer, int y, int x, int c) {
  const fs_cuba_layer &spec = layer.spec;
  const int outs = layer.out.channels;
  const Reach down(y, spec.kernel_y, spec.stride_y, spec.padding_y, layer.out.height);
  const Reach right(x, spec.kernel_x, spec.stride_x, spec.padding_x, layer.out.width);
  if (right.last < right.first) return;
  for (int oy = down.first; oy <= down.last; ++oy) {
    const int ky = y + spec.padding_y - oy * spec.stride_y;
    const int64_t row = int64_t{oy} * layer.out.width;
    std::memset(layer.reached.data() + row + right.first, 1, static_cast<size_t>(right.last - right.first + 1));
    if (spec.kind == FS_CUBA_POOL) {
      for (int ox = right.first; ox <= right.last; ++ox)
        layer.input[static_cast<size_t>((row + ox) * outs + c)] +=
            layer.weights[static_cast<size_t>(ky * spec.kernel_x + x - ox * spec.stride_x)];
      continue;
    }
    // Weights lie last column first, so that they come in the order of the outputs: with a stride of 1 in one run.
    const int16_t *w = layer.weights.data() + (int64_t{ky} * layer.in.channels + c) * spec.kernel_x * outs;
    const int from = spec.kernel_x - 1 - (x + spec.padding_x - right.first * spec.stride_x);
    int32_t *to = layer.input.data() + (row + right.first) * outs;
    if (spec.stride_x == 1) add_run(to, w + int64_t{from} * outs, (right.last - right.first + 1) * outs);
    else
      for (int i = 0; i <= right.last - right.first; ++i)
        add_run(to + int64_t{i} * outs, w + (from + int64_t{i} * spec.stride_x) * outs, outs);
  }
}

// What a step leaves of a value: towards zero, and without leaving 32 bits.
INLINE int32_t decayed(int32_t value, int32_t kept) {
  const int32_t size = value < 0 ? -value : value;
  const int32_t left = (size >> 12) * kept + (((size & 4095) * kept) >> 12);
  return value < 0 ? -left : left;
}

// One step of n neurons side by side; returns how many currents wrapped, and adds to `any` whether one fired.
INLINE int32_t update(int n, int32_t *input, int32_t *current, int32_t *voltage, const int32_t *bias, uint8_t *fired,
                      int32_t keep_u, int32_t keep_v, int32_t threshold, int32_t &any) {
  int32_t wraps = 0, spikes = 0;
  for (int i = 0; i < n; ++i) {
    int32_t u = decayed(current[i], keep_u) + input[i] * 64;
    const int32_t above = u > kLimit, below = u <= -kLimit;
    u += (below - above) * 2 * kLimit;
    wraps += above + below;
    int32_t v = decayed(voltage[i], keep_v) + u + (bias != nullptr ? bias[i] : 0);
    v = std::min(std::max(v, 1 - kLimit), kLimit - 1);
    const int32_t fires = v > threshold;
    spikes += fires;
    input[i] = 0, current[i] = u, voltage[i] = fires ? 0 : v;
    fired[i] = static_cast<uint8_t>(fires);
  }
  any += spikes;
  return wraps;
}

// Calls take(index) for every byte that is not 0.
template <typename Take>
INLINE void each_set(const uint8_t *bytes, int64_t n, Take take) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint64_t word;
    std::memcpy(&word, bytes + i, 8);
    if (word == 0) continue;
    for (int64_t k = i; k < i + 8; ++k)
      if (bytes[k] != 0) take(k);
  }
  for (; i < n; ++i)
    if (bytes[i] != 0) take(i);
}

// What came in `delay` steps ago takes the place of what comes in now.
void shift(Layer &layer, int t) {
  const size_t outs = layer.delay.size(), rooms = kMaxDelay + 1, now = static_cast<size_t>(t) % rooms;
  for (size_t o = 0; o < outs; ++o) layer.late[(now + layer.delay[o]) % rooms * outs + o] += layer.input[o];
  int32_t *due = layer.late.data() + now * outs;
  std::copy_n(due, outs, layer.input.begin());
  std::fill_n(due, outs, 0);
}

WIDE int64_t step(Layer &layer, const std::vector<int32_t> &incoming, int t) {
  const int outs = layer.out.channels, ins = layer.in.channels;
  for (const int32_t spike : incoming) {
    const int32_t place = spike / ins;
    spread(layer, place / layer.in.width, place % layer.in.width, spike % ins);
  }
  if (!layer.delay.empty()) {
    shift(layer, t);
    layer.reached[0] = 1;
  }
  const fs_cuba_layer &spec = layer.spec;
  const int32_t keep_u = 4096 - spec.current_decay, keep_v = 4096 - spec.voltage_decay, threshold = spec.threshold * 64;
  const int32_t *bias = layer.bias.empty() ? nullptr : layer.bias.data();
  const auto places = static_cast<int64_t>(layer.reached.size());
  int64_t wraps = 0;
  layer.spikes.clear();
  for (int64_t place = 0; place < places; ++place) {
    if (layer.reached[static_cast<size_t>(place)] == 0) continue;
    int64_t end = place + 1;  // places side by side are one run, as far as their biases repeat
    if (bias == nullptr)
      while (end < places && end - place < 1024 && layer.reached[static_cast<size_t>(end)] != 0) ++end;
    const int64_t at = place * outs;
    const int n = static_cast<int>((end - place) * outs);
    int32_t any = 0;
    wraps += update(n, layer.input.data() + at, layer.current.data() + at, layer.voltage.data() + at, bias,
                    layer.fired.data() + at, keep_u, keep_v, threshold, any);
    if (any != 0)
      each_set(layer.fired.data() + at, n, [&](int64_t i) { layer.spikes.push_back(static_cast<int32_t>(at + i)); });
    place = end - 1;
  }
  return wraps;
}

// (channels, height, width) frame to spikes; false if a value is neither 0 nor 1.
bool read_frame(const uint8_t *frame, const Shape &shape, std::vector<int32_t> &spikes) {
  const int32_t plane = shape.height * shape.width;
  bool binary = true;
  spikes.clear();
  for (int32_t c = 0; c < shape.channels; ++c)
    each_set(frame + int64_t{c} * plane, plane, [&](int64_t i) {
      binary = binary && frame[int64_t{c} * plane + i] == 1;
      spikes.push_back(static_cast<int32_t>(i) * shape.channels + c);
    });
  return binary;
}

void write_frame(const Layer &layer, uint8_t *to) {
  const Shape &shape = layer.out;
  const int32_t plane = shape.height * shape.width;
  std::memset(to, 0, static_cast<size_t>(shape.size()));
  for (const int32_t spike : layer.spikes) to[int64_t{spike % shape.channels} * plane + spike / shape.channels] = 1;
}

void flatten(Layer &layer, const std::vector<int32_t> &incoming) {
  const int32_t channels = layer.in.channels, plane = layer.in.height * layer.in.width;
  layer.spikes.clear();
  for (const int32_t spike : incoming) layer.spikes.push_back(spike % channels * plane + spike / channels);
}

void rest(Layer &layer) {
  std::fill(layer.current.begin(), layer.current.end(), 0);
  std::fill(layer.voltage.begin(), layer.voltage.end(), 0);
  std::fill(layer.input.begin(), layer.input.end(), 0);
  std::fill(layer.late.begin(), layer.late.end(), 0);
  std::fill(layer.reached.begin(), layer.reached.end(), static_cast<uint8_t>(!layer.bias.empty()));
}

}  // namespace

extern "C" {

fs_cuba *fs_cuba_new(int channels, int height, int width, const fs_cuba_layer *layers, int n, char *error, int room) {
  std::string fault;
  try {
    fault = "the network: ";
    auto network = std::make_unique<fs_cuba>();
    network->input = {channels, height, width};
    require(fits(network->input), "its input is not allowed");
    require(n >= 1, "it has no layers");
    for (int i = 0; i < n; ++i) {
      fault = "layer " + std::to_string(i) + ": ";
      add(*network, layers[i]);
    }
    network->spikes.reserve(static_cast<size_t>(network->input.size()));
    return network.release();
  } catch (const std::exception &caught) {
    fault += caught.what();
  }
  std::strncpy(error, fault.c_str(), static_cast<size_t>(room) - 1);
  error[room - 1] = 0;
  return nullptr;
}

void fs_cuba_free(fs_cuba *network) { delete network; }

int fs_cuba_run(fs_cuba *network, const uint8_t *frames, int steps, uint8_t *spikes, int64_t *counts, int64_t *wraps,
                uint8_t *trace) {
  if (steps < 1 || steps > kMaxSteps) return FS_REFUSED;
  std::vector<Layer> &layers = network->layers;
  std::fill_n(counts, layers.size(), 0);
  *wraps = 0;
  for (Layer &layer : layers) rest(layer);
  const int64_t size = network->input.size(), out = layers.back().out.size();
  for (int t = 0; t < steps; ++t) {
    if (!read_frame(frames + t * size, network->input, network->spikes)) return FS_REFUSED;
    const std::vector<int32_t> *incoming = &network->spikes;
    uint8_t *to = trace;
    for (size_t i = 0; i < layers.size(); ++i) {
      Layer &layer = layers[i];
      if (has_neurons(layer)) *wraps += step(layer, *incoming, t);
      else flatten(layer, *incoming);
      counts[i] += static_cast<int64_t>(layer.spikes.size());
      if (to != nullptr) {
        write_frame(layer, to + t * layer.out.size());
        to += steps * layer.out.size();
      }
      incoming = &layer.spikes;
    }
    write_frame(layers.back(), spikes + t * out);
  }
  return FS_OK;
}

}  // extern "C"
