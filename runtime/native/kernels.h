// The hot arithmetic, compiled several times, each for other vector units, and chosen when a network or an encoder is
// made: one portable library that still uses what the machine has. A file of kernels puts everything into the namespace
// FS_ARCH and takes nothing from the standard library that could be emitted as a function of its own, since the linker
// would keep one copy of it for all, perhaps one that this machine cannot run.
#pragma once

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "encode.h"
#include "network.h"

#define FS_DECLARE_KERNELS(arch)                                                             \
  namespace arch {                                                                           \
  bool read_times(const uint8_t *times, const Shape &shape, int steps, Plane &output);           \
  void run_maxpool(Layer &layer);                                                             \
  void run_weighted(Layer &layer, bool quartz, bool pooled, Scratch &scratch, Plane &output, int32_t *potentials);      \
  bool place(const Geometry &geometry, const fs_event *events, int n, int32_t *index, int64_t *outside);               \
  bool within(const fs_event *events, int n, int64_t from, uint64_t span);                                             \
  void finish_counts(uint8_t *times, int64_t size, int steps, int count_scale);                                        \
  }

FS_DECLARE_KERNELS(portable)
FS_DECLARE_KERNELS(x86_64_v3)
FS_DECLARE_KERNELS(x86_64_v4)
FS_DECLARE_KERNELS(armv8_dotprod)

struct Kernels {
  // (channels, height, width) times to activations; false if a time is after the last step.
  decltype(&portable::read_times) read_times;
  // The first spike of each patch: the greatest activation.
  decltype(&portable::run_maxpool) run_maxpool;
  // A convolution of gated or quartz neurons: activations, after the 2×2 pooling if `pooled`, and where `potentials` is
  // not null, [height][width][lanes].
  decltype(&portable::run_weighted) run_weighted;
};

struct EncodeKernels {
  // Where n <= kBlock events lie in the model, -1 if nowhere; adds those beyond the sensor; true if any lies nowhere.
  decltype(&portable::place) place;
  // Whether all events have from <= t < from + span.
  decltype(&portable::within) within;
  // Counts up to count_scale <= 255 to times, in place (steps < count_scale).
  decltype(&portable::finish_counts) finish_counts;
};

// The level to use for one that was asked for (FS_KERNELS_BEST among them), or -1 where this build or machine has none.
inline int kernels_level(int level) {
  int wider = -1, widest = -1;  // the levels above the portable one that this machine has
#if defined(__x86_64__)
  if (__builtin_cpu_supports("x86-64-v3")) wider = FS_KERNELS_X86_64_V3;
  if (__builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512vnni")) widest = FS_KERNELS_X86_64_V4;
#elif defined(__aarch64__) && defined(__linux__)
  if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0) wider = FS_KERNELS_ARMV8_DOTPROD;
#endif
  if (level == FS_KERNELS_BEST) return widest >= 0 ? widest : wider >= 0 ? wider : FS_KERNELS_PORTABLE;
  return level == FS_KERNELS_PORTABLE || level == wider || level == widest ? level : -1;
}

// One table of kernels for each level, made by `make`, which names an architecture's functions.
#if defined(__x86_64__)
#define FS_TABLES(make) {make(portable), make(x86_64_v3), make(x86_64_v4)}
#elif defined(__aarch64__) && defined(__linux__)
#define FS_TABLES(make) {make(portable), make(armv8_dotprod), make(portable)}
#else
#define FS_TABLES(make) {make(portable), make(portable), make(portable)}
#endif

template <typename Table>
const Table *kernels_of(const Table (&tables)[3], int level) {
  switch (kernels_level(level)) {
    case FS_KERNELS_PORTABLE: return &tables[0];
    case FS_KERNELS_X86_64_V3:
    case FS_KERNELS_ARMV8_DOTPROD: return &tables[1];
    case FS_KERNELS_X86_64_V4: return &tables[2];
    default: return nullptr;
  }
}
