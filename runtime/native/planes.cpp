// Kernels without neurons' arithmetic: the input and pooling.
#include "lanes.h"

namespace FS_ARCH {

bool read_times(const uint8_t *times, const Shape &shape, int steps, Plane &output) {
  uint8_t latest = 0;
  const int channels = shape.channels;
  const int64_t pixels = int64_t{shape.height} * shape.width;
  // Without borders, all rows are one.
  const bool whole = output.row == int64_t{shape.width} * channels;
  const int height = whole ? 1 : shape.height;
  const int64_t width = whole ? pixels : shape.width;
  const auto last = static_cast<uint8_t>(steps);
  for (int y = 0; y < height; ++y) {
    uint8_t *row = output.at(y, 0, channels);
    const uint8_t *in = times + y * width;
    if (channels == 1) {
      for (int64_t x = 0; x < width; ++x) latest = greatest(latest, in[x]);
      for (int64_t x = 0; x < width; ++x) row[x] = static_cast<uint8_t>(last - in[x]);
    } else if (channels == 2) {
      const uint8_t *second = in + pixels;
      for (int64_t x = 0; x < width; ++x) latest = greatest(latest, greatest(in[x], second[x]));
      for (int64_t x = 0; x < width; ++x) {
        row[2 * x] = static_cast<uint8_t>(last - in[x]);
        row[2 * x + 1] = static_cast<uint8_t>(last - second[x]);
      }
    } else {
      for (int c = 0; c < channels; ++c, in += pixels)
        for (int64_t x = 0; x < width; ++x) {
          latest = greatest(latest, in[x]);
          row[x * channels + c] = static_cast<uint8_t>(last - in[x]);
        }
    }
  }
  return latest <= steps;
}

void run_maxpool(Layer &layer) {
  const int channels = layer.in.channels;
  const int64_t row = layer.input->row;
  const uint8_t *input = &layer.input->bytes[0] + layer.input->origin;
  for (int y = 0; y < layer.out.height; ++y) {
    uint8_t *output = layer.output.at(y, 0, channels);
    for (int x = 0; x < layer.out.width; ++x, output += channels) {
      const uint8_t *patch = input + int64_t{y} * layer.stride_y * row + int64_t{x} * layer.stride_x * channels;
      for (int c = 0; c < channels; ++c) output[c] = patch[c];
      for (int ky = 0; ky < layer.kernel_y; ++ky)
        for (int kx = ky == 0; kx < layer.kernel_x; ++kx) {
          const uint8_t *in = patch + ky * row + int64_t{kx} * channels;
          for (int c = 0; c < channels; ++c) output[c] = greatest(output[c], in[c]);
        }
    }
  }
}

}  // namespace FS_ARCH
