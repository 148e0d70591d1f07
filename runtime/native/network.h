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

// Output channels are padded to whole vectors of 32-bit lanes: to kLanes, or to half of them if that is enough.
constexpr int kLanes = 16;

// Outputs are computed by tiles of that many pixels: four neighbours in a row, or the patch of a 2×2 pooling.
constexpr int kTile = 4;

// The fields of layers below that many groups times lanes are not searched for what is silent in them: it would cost more
// than it saves.
constexpr int kListed = 1024;
// What a list of groups, and a plane, may be written or read beyond its end.
constexpr int kRoom = 64;

// Activations of a layer or of the input, a byte each. Around them lie zeros, as many as the layer that reads them pads
// with, so that no receptive field needs to know where the border is.
struct Plane {
  int64_t row = 0;     // bytes from a pixel to the one below it
  int64_t origin = 0;  // where pixel (0, 0) lies
  std::vector<uint8_t> bytes;
  [[gnu::always_inline]] inline uint8_t *at(int64_t y, int64_t x, int channels) {
    return bytes.data() + origin + y * row + x * channels;
  }
};

struct Layer {
  Kind kind;
  Shape in, out;
  int kernel_y, kernel_x, stride_y, stride_x, padding_y = 0, padding_x = 0;
  int start = 0, end = 0, last = 0;  // frame, global steps
  // Weighted layers (a dense layer is a convolution whose kernel covers its input):
  int steps = 0, ramp = 0, rounding = 0;
  int lanes = 0;                // outputs, padded
  int greatest_input = 0;       // the greatest activation an input can have
  int earliest_output = 0;      // no neuron spikes before this step
  bool skipped = false;         // a flatten whose input the dense layer after it reads directly
  bool pooled = false;          // the 2×2 pooling after it is computed with it, unless every spike is asked for
  std::vector<int8_t> weights;  // [kernel_y][kernel_x][in channel][lanes]
  std::vector<int32_t> bias;    // [lanes]: the current b
  int threshold() const { return ramp * steps - rounding; }

  // A receptive field is read as `groups` of four bytes, whose places follow from its first byte, and `packed` holds
  // the weights likewise: [groups][lanes][4]. Where a row of the field is no multiple of four, weights of 0 fill it.
  int groups = 0, row_groups = 0;  // of the field, of each of its rows
  std::vector<int32_t> places;
  std::vector<int8_t> packed, excitation;  // excitation: of quartz layers, weights above 0 only
  std::vector<int32_t> charge, charge_up;  // [lanes]: what the bias adds until `end`; of quartz layers, one step less, if above 0
  std::vector<float> slope;                // of quartz layers, [lanes]: the most by which a potential falls in a step, at least 1
  bool charged = false;                    // a bias is above 0
  std::vector<uint8_t> rest;               // [lanes]: activations without any input
  float inverse = 0;                       // of the ramp, where multiplying by it is exact; else 0
  bool restless = false;                   // a bias alone makes a neuron spike early

  const Plane *input = nullptr;
  Plane output;
  std::vector<uint16_t> wide;  // the activations of a network that is wide
};

// An input that is not silent, of a wide quartz layer, where they are sorted by time.
struct Spike {
  int32_t y, x, c;
  int32_t a;
};

// What running a network needs beside its activations, sized by fs_network_finish for the largest layer.
struct Scratch {
  std::vector<int32_t> listed;  // [kTile][groups + room]: a field's groups that are not silent
  std::vector<uint8_t> seen;    // what the rows of a field hold, in any of them
  // Wide networks:
  std::vector<int32_t> row_start;  // [height + 1]
  std::vector<Spike> spikes;       // of one layer, by row, in each by time
  std::vector<Spike> by_time;      // the same over the whole layer
  std::vector<int32_t> histogram;  // events by activation
  std::vector<int32_t> cursor;     // next event of each input row
  std::vector<int32_t> current, potential, fired;  // one output row, [width][lanes]
};

struct fs_network {
  bool quartz = false;
  bool wide = false;  // early spikes could give activations that a byte cannot hold: wide.cpp runs it
  bool finished = false;
  const struct Kernels *kernels = nullptr;
  Shape input{};
  int input_steps = 0;
  std::vector<Layer> layers;
  std::string error;
  Scratch scratch;
  Plane input_plane;
  std::vector<uint16_t> wide_input;
  std::vector<int32_t> outputs;  // potentials of the last layer, [height][width][lanes]
};
