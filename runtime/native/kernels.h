// The arithmetic of a network's layers, compiled several times, each for other vector units, and chosen when a network is
// built: one portable library that still uses what the machine has. A file of kernels puts everything into the namespace
// FS_ARCH and takes nothing from the standard library that could be emitted as a function of its own, since the linker
// would keep one copy of it for all, perhaps one that this machine cannot run.
#pragma once

#include "network.h"

#define FS_DECLARE_KERNELS(arch)                                                             \
  namespace arch {                                                                           \
  bool read_times(const uint8_t *times, const Shape &shape, int steps, uint16_t *output);    \
  void run_maxpool(const Layer &layer, const uint16_t *input, uint16_t *output);             \
  void run_gated(const Layer &layer, Scratch &scratch, const uint16_t *input, uint16_t *output, int32_t *potentials);  \
  void run_quartz(const Layer &layer, Scratch &scratch, const uint16_t *input, uint16_t *output, int32_t *potentials); \
  }

FS_DECLARE_KERNELS(portable)
FS_DECLARE_KERNELS(x86_64_v3)
FS_DECLARE_KERNELS(x86_64_v4)

struct Kernels {
  // (channels, height, width) times to (height, width, channels) activations; false if a time is after the last step.
  decltype(&portable::read_times) read_times;
  // The first spike of each patch: the greatest activation.
  decltype(&portable::run_maxpool) run_maxpool;
  // A convolution of gated or quartz neurons: activations, and where `potentials` is not null, [height][width][lanes].
  decltype(&portable::run_gated) run_gated;
  decltype(&portable::run_quartz) run_quartz;
};
