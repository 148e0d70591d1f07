// A weighted layer. By the end of its input phase a neuron's potential is the sum of weights times activations, and unless
// it spikes before that, its activation follows from this potential alone. A gated neuron cannot spike before. A quartz
// neuron can, but only if what excites it reaches the threshold without what inhibits it; that sum is made along with the
// first, and the few neurons that it leaves in doubt are followed step by step (early.h).
#include "early.h"
#include "field.h"

namespace FS_ARCH {
namespace {

// The pixels that are computed together: four neighbours, or the patch of a 2×2 pooling, or one.
template <int P>
struct Tile {
  const uint8_t *fields[P];
  uint8_t *outputs;     // of the first pixel, or of the patch
  int32_t *potentials;  // of the first pixel, or null
  const int32_t *listed[P];
  int counts[P];
};

template <int W, int P, int B, bool Narrow, bool Before>
FS_INLINE void add_fields(const Layer &layer, const Tile<P> &tile, bool sparse, const int8_t *weights,
                          const int32_t *initial, Vec<W> (&u)[P][B]) {
  for (int p = 0; p < P; ++p)
    for (int b = 0; b < B; ++b) u[p][b] = load<W>(initial + b * W);
  if (!sparse) return add_all<W, P, B, Narrow, Before>(layer, tile.fields, weights, u);
  for (int p = 0; p < P; ++p)
    add_listed<W, B, Narrow, Before>(layer, tile.fields[p], tile.listed[p], tile.counts[p], weights, u[p]);
}

// Follows the neurons in question, those with `early` not 0, which becomes how many steps before the end they spike; returns
// whether any does before the end.
template <int W, int P, int B, bool Narrow>
FS_INLINE bool settle(const Layer &layer, const Tile<P> &tile, bool sparse, int lane, int greatest_input,
                      const Vec<W> (&u)[P][B], const Vec<W> (&excited)[P][B], Vec<W> (&early)[P][B]) {
  Doubt doubts[P * B * W];
  int32_t potentials[W], excitations[W], found[P][B][W];
  int n = 0;
  for (int p = 0; p < P; ++p)
    for (int b = 0; b < B; ++b) {
      uint32_t asked = bits<W>(early[p][b]);
      early[p][b] = Vec<W>{};
      if (asked == 0) continue;
      store<W>(potentials, u[p][b]);
      store<W>(excitations, excited[p][b]);
      for (; asked != 0; asked &= asked - 1) {
        const int i = __builtin_ctz(asked);
        Doubt &doubt = doubts[n++];
        doubt = {tile.fields[p], sparse ? tile.listed[p] : nullptr, tile.counts[p], lane + b * W + i, 0, 0, (p * B + b) * W + i, 0};
        limit(layer, greatest_input, potentials[i], excitations[i], doubt);
      }
    }
  follow<Narrow>(layer, doubts, n);
  int32_t some = 0;
  for (int i = 0; i < n; ++i) some |= doubts[i].early;
  if (some == 0) return false;
  __builtin_memset(found, 0, sizeof found);
  for (int i = 0; i < n; ++i) (&found[0][0][0])[doubts[i].at] = doubts[i].early;
  __builtin_memcpy(early, found, sizeof found);
  return true;
}

// Writes the activations of a vector of every pixel, from channel `at` on.
template <int W, int P, bool Pooled>
FS_INLINE void finish(const Layer &layer, const Tile<P> &tile, int at, Vec<W> (&activations)[P]) {
  const int channels = layer.out.channels, n = least(W, channels - at);
  for (int p = 1; p < P && Pooled; ++p) activations[0] = greatest<W>(activations[0], activations[p]);
  for (int p = 0; p < (Pooled ? 1 : P); ++p) store_bytes<W>(tile.outputs + p * channels + at, activations[p], n);
}

// `B` vectors of output channels from `lane` on.
template <int W, int P, int B, bool Narrow, bool Quartz, bool Pooled>
FS_INLINE void run_lanes(const Layer &layer, const Tile<P> &tile, bool sparse, int greatest_input, int lane) {
  Vec<W> u[P][B], activations[P];
  const int64_t first_weight = int64_t{lane} * 4;
  add_fields<W, P, B, Narrow, false>(layer, tile, sparse, &layer.packed[0] + first_weight, &layer.charge[0] + lane, u);
  if (!Pooled && tile.potentials != nullptr)
    for (int p = 0; p < P; ++p)
      for (int b = 0; b < B; ++b) store<W>(tile.potentials + p * layer.lanes + lane + b * W, u[p][b]);
  if constexpr (Quartz) {
    Vec<W> excited[P][B], early[P][B], doubt{};
    add_fields<W, P, B, Narrow, true>(layer, tile, sparse, &layer.excitation[0] + first_weight, &layer.charge_up[0] + lane,
                                      excited);
    for (int p = 0; p < P; ++p)
      for (int b = 0; b < B; ++b)
        doubt |= early[p][b] = question<W>(layer, lane + b * W, greatest_input, u[p][b], excited[p][b]);
    if (any<W>(doubt) && settle<W, P, B, Narrow>(layer, tile, sparse, lane, greatest_input, u, excited, early)) {
      for (int b = 0; b < B; ++b) {
        for (int p = 0; p < P; ++p)
          activations[p] = early[p][b] > 0 ? early[p][b] + layer.steps : readout<W>(u[p][b], layer);
        finish<W, P, Pooled>(layer, tile, lane + b * W, activations);
      }
      return;
    }
  }
  for (int b = 0; b < B; ++b) {
    if constexpr (Pooled) {  // the readout never falls where the potential rises
      for (int p = 1; p < P; ++p) u[0][b] = greatest<W>(u[0][b], u[p][b]);
      const int at = lane + b * W;
      store_bytes<W>(tile.outputs + at, readout<W>(u[0][b], layer), least(W, layer.out.channels - at));
    } else {
      for (int p = 0; p < P; ++p) activations[p] = readout<W>(u[p][b], layer);
      finish<W, P, Pooled>(layer, tile, lane + b * W, activations);
    }
  }
}

// What lies in any of the rows, byte by byte, and a few bytes of anything behind it.
FS_INLINE void merge_rows(const uint8_t *from, int64_t row, int rows, uint8_t *seen) {
  for (int64_t i = 0; i < row; i += kVector * 4) {
    Vec<kVector> some = load<kVector>(from + i);
    for (int y = 1; y < rows; ++y) some |= load<kVector>(from + y * row + i);
    store<kVector>(seen + i, some);
  }
}

FS_INLINE bool occupied(const uint8_t *seen, int64_t bytes) {
  uint64_t some = 0, word;
  for (; bytes >= 8; bytes -= 8, seen += 8) {
    __builtin_memcpy(&word, seen, sizeof word);
    some |= word;
  }
  __builtin_memcpy(&word, seen, sizeof word);
  return (some | (word & ((uint64_t{1} << 8 * bytes) - 1))) != 0;
}

template <int W, int P, bool Narrow, bool Quartz, bool Pooled, bool Listed>
FS_INLINE void run_tile(const Layer &layer, Scratch &scratch, Tile<P> &tile, int greatest_input) {
  const int vectors = layer.lanes / W;
  bool sparse = false;
  if constexpr (Listed) {
    int total = 0;
    const int room = layer.groups + kRoom;
    for (int p = 0; p < P; ++p) {
      int32_t *listed = &scratch.listed[0] + p * room;
      tile.listed[p] = listed;
      total += tile.counts[p] = list_groups(layer, tile.fields[p], listed);
    }
    // Alone, a group costs its weights' way from the cache too.
    sparse = int64_t{total} * (2 * vectors + 2) + 16 * P < int64_t{layer.groups} * (P * vectors + vectors + P);
  }
  constexpr int kMost = kVector == 16 ? (Quartz ? 2 : 4) : (Quartz ? 1 : 2);
  int lane = 0;
  for (int left = vectors; left > 0;) {
    if (kMost >= 4 && left >= 4) {
      run_lanes<W, P, least(4, kMost), Narrow, Quartz, Pooled>(layer, tile, sparse, greatest_input, lane);
      left -= 4, lane += 4 * W;
    } else if (kMost >= 2 && left >= 2) {
      run_lanes<W, P, least(2, kMost), Narrow, Quartz, Pooled>(layer, tile, sparse, greatest_input, lane);
      left -= 2, lane += 2 * W;
    } else {
      run_lanes<W, P, 1, Narrow, Quartz, Pooled>(layer, tile, sparse, greatest_input, lane);
      left -= 1, lane += W;
    }
  }
}

// The greatest activation of a plane, whose borders are 0.
FS_INLINE int greatest_of(const Plane &plane) {
  using Bytes = typename VectorOf<kVector>::Bytes;
  const uint8_t *bytes = &plane.bytes[0];
  const int64_t n = static_cast<int64_t>(plane.bytes.size()) - kRoom;
  Bytes most{};
  for (int64_t i = 0; i < n; i += kVector * 4) {
    const Bytes some = (Bytes)load<kVector>(bytes + i);
    most = some > most ? some : most;
  }
  int greatest_byte = 0;
  for (int i = 0; i < kVector * 4; ++i) greatest_byte = greatest(greatest_byte, static_cast<int>(most[i]));
  return greatest_byte;
}

template <int W, int P, bool Narrow, bool Quartz, bool Pooled, bool Listed>
void run_pixels(Layer &layer, Scratch &scratch, Plane &output, int32_t *potentials) {
  constexpr int across = P == 1 ? 1 : Pooled ? 2 : P, down = Pooled ? 2 : 1;  // pixels of a tile
  const int channels = layer.in.channels, outputs = layer.out.channels, width = layer.out.width, lanes = layer.lanes;
  const int64_t row = layer.input->row, pixel = int64_t{layer.stride_x} * channels;
  int greatest_input = 0;
  if constexpr (Quartz) greatest_input = greatest(greatest_of(*layer.input), layer.charged ? layer.end - layer.start : 0);
  const int rows = (down - 1) * layer.stride_y + layer.kernel_y;
  const int64_t bytes = (int64_t{across - 1} * layer.stride_x + layer.kernel_x) * channels;
  int64_t shift[P];
  for (int p = 0; p < P; ++p) shift[p] = Pooled ? p / 2 * layer.stride_y * row + p % 2 * pixel : p * pixel;
  uint8_t *seen = &scratch.seen[0];
  const bool skips = potentials == nullptr && !layer.restless;
  for (int y = 0; y + down <= layer.out.height; y += down) {
    const uint8_t *fields = &layer.input->bytes[0] + int64_t{y} * layer.stride_y * row;
    if (skips) merge_rows(fields, row, rows, seen);
    uint8_t *to = output.at(y / down, 0, outputs);
    int32_t *potential = potentials == nullptr ? nullptr : potentials + int64_t{y} * width * lanes;
    for (int x = 0; x < (Pooled ? width - 1 : width); x += across) {
      const int over = greatest(x + across - width, 0);  // the last tile of a row may repeat pixels
      const uint8_t *field = fields + (x - over) * pixel;
      const uint8_t *here = seen + (x - over) * pixel;
      Tile<P> tile{};
      tile.outputs = to + int64_t{x - over} / down * outputs;
      if (skips && !occupied(here, bytes)) {
        for (int p = 0; p < (Pooled ? 1 : P); ++p)
          __builtin_memcpy(tile.outputs + p * outputs, &layer.rest[0], static_cast<size_t>(outputs));
        continue;
      }
      for (int p = 0; p < P; ++p) tile.fields[p] = field + shift[p];
      if (!Pooled && potential != nullptr) tile.potentials = potential + int64_t{x - over} * lanes;
      run_tile<W, P, Narrow, Quartz, Pooled, Listed>(layer, scratch, tile, greatest_input);
    }
  }
}

template <int W, bool Narrow, bool Quartz, bool Listed>
FS_INLINE void run(Layer &layer, bool pooled, Scratch &scratch, Plane &output, int32_t *potentials) {
  if (pooled) run_pixels<W, kTile, Narrow, Quartz, true, Listed>(layer, scratch, output, potentials);
  else if (layer.out.width >= kTile) run_pixels<W, kTile, Narrow, Quartz, false, Listed>(layer, scratch, output, potentials);
  else run_pixels<W, 1, Narrow, Quartz, false, Listed>(layer, scratch, output, potentials);
}

template <int W, bool Narrow>
FS_INLINE void run(Layer &layer, bool quartz, bool pooled, Scratch &scratch, Plane &output, int32_t *potentials) {
  const bool listed = layer.groups * layer.lanes >= kListed;
  if (quartz && listed) run<W, Narrow, true, true>(layer, pooled, scratch, output, potentials);
  else if (quartz) run<W, Narrow, true, false>(layer, pooled, scratch, output, potentials);
  else if (listed) run<W, Narrow, false, true>(layer, pooled, scratch, output, potentials);
  else run<W, Narrow, false, false>(layer, pooled, scratch, output, potentials);
}

}  // namespace

void run_weighted(Layer &layer, bool quartz, bool pooled, Scratch &scratch, Plane &output, int32_t *potentials) {
#if defined(__AVX512VNNI__)  // its products are added in 32 bits: nothing needs to be narrow
  if (layer.lanes == kLanes / 2) run<8, true>(layer, quartz, pooled, scratch, output, potentials);
  else run<16, true>(layer, quartz, pooled, scratch, output, potentials);
#else
  if (layer.greatest_input <= kNarrow) run<kVector, true>(layer, quartz, pooled, scratch, output, potentials);
  else run<kVector, false>(layer, quartz, pooled, scratch, output, potentials);
#endif
}

}  // namespace FS_ARCH
