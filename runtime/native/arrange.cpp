// Laying out a network: planes with their borders, weights by groups of four, scratch for the largest layer.
#include "arrange.h"

#include <algorithm>

namespace {

size_t size(int64_t n) { return static_cast<size_t>(n); }

// A plane for activations that `reader` (or nobody) reads.
void make_plane(Plane &plane, const Shape &shape, const Layer *reader) {
  const int across = reader == nullptr ? 0 : reader->padding_x, down = reader == nullptr ? 0 : reader->padding_y;
  plane.row = (int64_t{shape.width} + 2 * across) * shape.channels;
  plane.origin = down * plane.row + int64_t{across} * shape.channels;
  plane.bytes.assign(size((shape.height + 2 * int64_t{down}) * plane.row + kRoom), 0);
}

void pack(const fs_network &network, Layer &layer) {
  const int64_t channels = layer.in.channels, lanes = layer.lanes;
  // A kernel as wide as its input, borders included, lies in one piece.
  const bool whole = layer.kernel_x == layer.in.width + 2 * layer.padding_x;
  const int64_t rows = whole ? 1 : layer.kernel_y;
  const int64_t bytes = (whole ? layer.kernel_y : 1) * layer.kernel_x * channels, groups = (bytes + 3) / 4;
  layer.groups = static_cast<int>(rows * groups);
  layer.row_groups = static_cast<int>(groups);
  // See readout() in lanes.h.
  if (layer.ramp * layer.steps < 1 << 20) layer.inverse = 1.0F / static_cast<float>(layer.ramp);
  layer.places.clear();
  layer.packed.assign(size(layer.groups * lanes * 4), 0);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t group = 0; group < groups; ++group) {
      layer.places.push_back(static_cast<int32_t>(row * layer.input->row + group * 4));
      for (int64_t byte = 4 * group; byte < std::min(4 * group + 4, bytes); ++byte)
        for (int64_t lane = 0; lane < lanes; ++lane)
          layer.packed[size(((row * groups + group) * lanes + lane) * 4 + byte % 4)] =
              layer.weights[size((row * bytes + byte) * lanes + lane)];
    }
  const int phase = layer.end - layer.start;
  layer.charge.resize(size(lanes));
  layer.rest.resize(size(lanes));
  for (size_t lane = 0; lane < size(lanes); ++lane) {
    const int32_t charge = layer.charge[lane] = layer.bias[lane] * phase;
    layer.rest[lane] = static_cast<uint8_t>(std::clamp(charge + layer.rounding, 0, layer.ramp * layer.steps) / layer.ramp);
    layer.restless |= network.quartz && charge >= layer.threshold();
  }
  if (!network.quartz) return;
  layer.excitation = layer.packed;
  for (int8_t &weight : layer.excitation) weight = std::max(weight, int8_t{0});
  layer.charge_up.resize(size(lanes));
  layer.slope.resize(size(lanes));
  for (size_t lane = 0; lane < size(lanes); ++lane) {
    const int32_t bias = layer.bias[lane];
    layer.charge_up[lane] = std::max(bias, 0) * (phase - 1);
    layer.charged |= bias > 0;
    int64_t slope = std::max(-bias, 0);
    for (size_t i = lane; i < layer.weights.size(); i += size(lanes)) slope += std::max(-layer.weights[i], 0);
    layer.slope[lane] = static_cast<float>(std::max<int64_t>(slope, 1));
  }
}

void arrange_wide(fs_network &network) {
  Scratch &scratch = network.scratch;
  size_t events = 0, rows = 0, row_lanes = 0, steps = 0;
  for (Layer &layer : network.layers) {
    layer.wide.resize(size(layer.out.size()));
    if (layer.steps == 0) continue;
    events = std::max(events, size(layer.in.size()));
    rows = std::max(rows, size(layer.in.height));
    row_lanes = std::max(row_lanes, size(int64_t{layer.out.width} * layer.lanes));
    steps = std::max(steps, size(layer.greatest_input));
  }
  network.wide_input.resize(size(network.input.size()));
  scratch.row_start.resize(rows + 1);
  scratch.cursor.resize(rows + 1);
  scratch.spikes.resize(events);
  scratch.by_time.resize(events);
  scratch.histogram.resize(steps + 2);
  for (auto *each : {&scratch.current, &scratch.potential, &scratch.fired}) each->resize(row_lanes);
}

}  // namespace

void arrange(fs_network &network) {
  for (const Layer &layer : network.layers) network.wide |= layer.greatest_input > 255;
  const Layer &last = network.layers.back();
  network.wide |= last.last - last.earliest_output > 255;
  network.outputs.resize(size(int64_t{last.out.height} * last.out.width * last.lanes));
  if (network.wide) return arrange_wide(network);
  Plane *written = &network.input_plane;
  const Shape *shape = &network.input;
  size_t groups = 0, row = 0;
  for (size_t i = 0; i < network.layers.size(); ++i) {
    Layer &layer = network.layers[i];
    layer.input = written;
    if (layer.skipped) continue;
    make_plane(*written, *shape, &layer);
    if (layer.steps > 0) {
      pack(network, layer);
      groups = std::max(groups, size(layer.groups));
      row = std::max(row, size(layer.input->row));
      if (i + 1 < network.layers.size()) {
        const Layer &next = network.layers[i + 1];
        layer.pooled = next.kind == Kind::maxpool && next.kernel_y == 2 && next.kernel_x == 2 && next.stride_y == 2 &&
                       next.stride_x == 2;
      }
    }
    written = &layer.output;
    shape = &layer.out;
  }
  make_plane(*written, *shape, nullptr);
  network.scratch.seen.resize(row + kRoom);
  network.scratch.listed.resize(kTile * (groups + kRoom));
}
