// A network as the emulator holds it. Activations are (height, width, channels), so that a pixel's channels lie together;
// an activation a means a spike at the step `last` - a, and a = 0 contributes nothing to any potential.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "firstspike.h"

struct Shape {
  int channels, height, width;
  int64_t size() const { return int64_t{channels} * height * width; }
};

enum class Kind { conv, maxpool, flatten };

constexpr int kLanes = 16;  // output channels are padded to whole vectors of 32-bit lanes

// An input that is not silent: `at` is x * channels + c within its row, `a` its activation, never 0.
struct Event {
  int32_t at;
  int32_t a;
};

struct Layer {
  Kind kind;
  Shape in, out;
  int kernel_y, kernel_x, stride_y, stride_x, padding_y = 0, padding_x = 0;
  int start = 0, end = 0, last = 0;  // frame, global steps
  // Weighted layers (a dense layer is a convolution whose kernel covers its input):
  int steps = 0, ramp = 0, rounding = 0;
  int lanes = 0;                // outputs, padded
  int greatest_input = 0;         // the greatest activation an input can have
  int earliest_output = 0;      // no neuron spikes before this step
  bool skipped = false;         // a flatten whose input the dense layer after it reads directly
  std::vector<int8_t> weights;  // [kernel_y][kernel_x][in channel][lanes]
  std::vector<int32_t> bias;    // [lanes]: the current b
  std::vector<uint16_t> activations;
  int threshold() const { return ramp * steps - rounding; }
};

struct fs_network {
  bool quartz = false;
  bool finished = false;
  Shape input{};
  int input_steps = 0;
  std::vector<Layer> layers;
  std::string error;
  // Scratch, sized by fs_network_finish for the largest layer:
  std::vector<uint16_t> input_activations;
  std::vector<Event> events;       // of one layer, by row
  std::vector<int32_t> row_start;  // gated: [height][width + 1], where each pixel's events begin; quartz: [height + 1]
  std::vector<Event> by_time;      // quartz: all events of a layer in order of time, with `at` over the whole layer
  std::vector<int32_t> histogram;  // quartz: events by activation
  std::vector<int32_t> cursor;     // quartz: next event of each input row
  std::vector<int32_t> current, potential, fired;  // quartz: one output row, [width][lanes]
  std::vector<int32_t> outputs;                    // potentials of the last layer, [height][width][lanes]
};

// Both fill layer.activations from `input`, and potentials of the last layer if `outputs` is not null.
void run_gated(fs_network &network, Layer &layer, const uint16_t *input, int32_t *outputs);
void run_quartz(fs_network &network, Layer &layer, const uint16_t *input, int32_t *outputs);

// The activation of a neuron that has not spiked by the end of its input phase: clip(floor((u + r) / S), 0, T).
// The float quotient floors exactly: x = min(max(u + r, 0), S*T) < 2^24 is exact, and where x/S is not an integer it lies
// at least 1/S below the next one k, which is more than half a unit in the last place of k, as k*S <= S*T < 2^24.
inline int32_t readout(int32_t u, int32_t rounding, int32_t ramp, float ramp_f, int32_t steps) {
  int32_t x = u + rounding;
  x = x < 0 ? 0 : x;
  const int32_t most = ramp * steps;
  x = x > most ? most : x;
  return static_cast<int32_t>(static_cast<float>(x) / ramp_f);
}
