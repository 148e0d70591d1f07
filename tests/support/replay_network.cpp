// Builds networks through the C interface, runs them, and compares every spike with what the definition gave: for machines
// on which Python's tests cannot run, such as an emulated one. Reads int32 words written by tests/system/test_aarch64.py.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "firstspike.h"

namespace {

std::FILE *file;

int32_t word() {
  int32_t value;
  if (std::fread(&value, sizeof value, 1, file) != 1) std::exit(3);
  return value;
}

template <typename T>
std::vector<T> words() {
  std::vector<T> values(static_cast<size_t>(word()));
  for (T &value : values) value = static_cast<T>(word());
  return values;
}

void require(int code, fs_network *network) {
  if (code == FS_OK) return;
  std::printf("refused: %s\n", fs_network_error(network));
  std::exit(2);
}

int add(fs_network *network) {
  const int32_t kind = word();
  const std::vector<int> p = words<int>();
  if (kind == 0) return fs_network_add_flatten(network);
  if (kind == 1) return fs_network_add_maxpool(network, p[0], p[1], p[2], p[3]);
  const auto weights = words<int8_t>();
  const auto bias = words<int16_t>();
  const int outputs = static_cast<int>(bias.size());
  if (kind == 2) return fs_network_add_dense(network, weights.data(), bias.data(), outputs, p[0], p[1], p[2]);
  return fs_network_add_conv(network, weights.data(), bias.data(), outputs, p[3], p[4], p[5], p[6], p[7], p[8], p[0], p[1],
                             p[2]);
}

}  // namespace

int main(int, char **arguments) {
  file = std::fopen(arguments[1], "rb");
  if (file == nullptr) return 3;
  long compared = 0, wrong = 0;
  for (int cases = word(); cases > 0; --cases) {
    const std::vector<int> head = words<int>();
    fs_network *network = fs_network_new(head[0], head[1], head[2], head[3], head[4]);
    require(fs_network_kernels(network, std::atoi(arguments[2])), network);
    for (int layers = word(); layers > 0; --layers) require(add(network), network);
    require(fs_network_finish(network), network);
    const auto times = words<uint8_t>();
    const auto spikes = words<int32_t>(), potentials = words<int32_t>();
    std::vector<int32_t> trace(spikes.size()), potential(potentials.size()), first(potentials.size()), again(first);
    require(fs_network_run(network, times.data(), potential.data(), first.data(), trace.data()), network);
    for (size_t i = 0; i < spikes.size(); ++i) wrong += spikes[i] != trace[i];
    require(fs_network_run(network, times.data(), potential.data(), again.data(), nullptr), network);
    for (size_t i = 0; i < potentials.size(); ++i) wrong += potentials[i] != potential[i] || first[i] != again[i];
    compared += static_cast<long>(spikes.size());
    fs_network_free(network);
  }
  std::printf("%ld spikes compared, %ld wrong\n", compared, wrong);
  return wrong == 0 && compared > 0 ? 0 : 1;
}
