// An encoder: how the sensor's field maps onto the model's, and how events become times. encode.py holds the definition.
#pragma once

#include <cstdint>
#include <vector>

#include "firstspike.h"

// Events are taken in blocks: first all their places, in vectors, then the one scalar update of each.
constexpr int kBlock = 128;

// One axis as arithmetic: the coordinate c lies at base + ((c - offset) * multiplier >> shift) if c - offset < kept.
struct Axis {
  uint32_t offset = 0, kept = 0, multiplier = 0, shift = 0, base = 0;
};

struct Geometry {
  int32_t width = 0, plane = 0;  // of the model; plane: from OFF to ON, 0 if they are merged
  int32_t sensor_width = 0, sensor_height = 0;
  bool exact = false;  // the axes below give just what the tables do
  Axis x, y;
  std::vector<int32_t> columns, rows;  // -1: cropped
};

struct fs_encoder {
  bool first = false;
  int64_t size = 0;
  int steps = 0, count_scale = 0;
  Geometry geometry;
  // Counting is a walk from `start` through next[state], in the result itself. While count_scale <= steps every count has
  // a time of its own and the states are the times; up to 255 they are counts, turned into times at the end. Beyond that
  // `counts` is needed, cleared after each window, and code[count].
  int start = 0;
  std::vector<uint8_t> next, code;
  std::vector<uint16_t> counts;
  const struct EncodeKernels *kernels = nullptr;
};
