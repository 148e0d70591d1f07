// Kernels without neurons' arithmetic: the input and pooling.
#include "lanes.h"

namespace FS_ARCH {

bool read_times(const uint8_t *times, const Shape &shape, int steps, uint16_t *output) {
  const int pixels = shape.height * shape.width, channels = shape.channels;
  int latest = 0;
  for (int c = 0; c < channels; ++c)
    for (int i = 0; i < pixels; ++i) {
      const int time = times[c * pixels + i];
      latest = greatest(latest, time);
      output[i * channels + c] = static_cast<uint16_t>(steps - time);
    }
  return latest <= steps;
}

void run_maxpool(const Layer &layer, const uint16_t *input, uint16_t *output) {
  const int channels = layer.in.channels;
  for (int y = 0; y < layer.out.height; ++y)
    for (int x = 0; x < layer.out.width; ++x, output += channels)
      for (int ky = 0; ky < layer.kernel_y; ++ky)
        for (int kx = 0; kx < layer.kernel_x; ++kx) {
          const int64_t pixel = int64_t{y * layer.stride_y + ky} * layer.in.width + x * layer.stride_x + kx;
          const uint16_t *in = input + pixel * channels;
          const bool begin = ky == 0 && kx == 0;
          for (int c = 0; c < channels; ++c) output[c] = begin ? in[c] : greatest(output[c], in[c]);
        }
}

}  // namespace FS_ARCH
