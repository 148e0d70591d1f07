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

// An input that is not silent: `at` is (x * channels + c) * lanes, its weights' place within its row of the kernel where
// that begins at x = 0; `a` its activation, never 0.
struct Event {
  int32_t at;
  int32_t a;
};

// The same for a quartz layer, where events are sorted by time.
struct Spike {
  int32_t y, x, c;
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

// What running a network needs beside its activations, sized by fs_network_finish for the largest layer.
struct Scratch {
  std::vector<Event> events;       // gated: of one layer, by row
  std::vector<int32_t> row_start;  // gated: [height][width + 1], where each pixel's events begin; quartz: [height + 1]
  std::vector<Spike> spikes;       // quartz: of one layer, by row, in each by time
  std::vector<Spike> by_time;      // quartz: the same over the whole layer
  std::vector<int32_t> histogram;  // quartz: events by activation
  std::vector<int32_t> cursor;     // quartz: next event of each input row
  std::vector<int32_t> current, potential, fired;  // quartz: one output row, [width][lanes]
};

struct fs_network {
  bool quartz = false;
  bool finished = false;
  const struct Kernels *kernels = nullptr;
  Shape input{};
  int input_steps = 0;
  std::vector<Layer> layers;
  std::string error;
  Scratch scratch;
  std::vector<uint16_t> input_activations;
  std::vector<int32_t> outputs;  // potentials of the last layer, [height][width][lanes]
};
