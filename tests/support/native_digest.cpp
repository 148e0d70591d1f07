// Prints what the library's functions that are not the network say of events drawn here: the same on every processor.
//
//   native_digest FILE      FILE is what the sampler reads
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include "firstspike.h"

namespace {

uint64_t state = 88172645463325252ULL;

uint64_t drawn() {  // xorshift64: no library's generator, which may differ
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

uint64_t digest(const void* data, size_t n, uint64_t hash = 1469598103934665603ULL) {  // FNV-1a
  const auto* bytes = static_cast<const unsigned char*>(data);
  for (size_t i = 0; i < n; ++i) hash = (hash ^ bytes[i]) * 1099511628211ULL;
  return hash;
}

std::vector<fs_event> events_of(int n, unsigned width, unsigned height) {
  std::vector<fs_event> events(static_cast<size_t>(n));
  int64_t t = 1000;
  for (fs_event& event : events) {
    t += static_cast<int64_t>(drawn() % 40);
    // Some outside the sensor, some of a time before the last one's.
    const bool early = drawn() % 64 == 0;
    event = {early ? t - 500 : t, static_cast<uint16_t>(drawn() % (width + 2)),
             static_cast<uint16_t>(drawn() % (height + 2)), static_cast<uint8_t>(drawn() % 3), {0, 0, 0}};
  }
  return events;
}

void encode(const std::vector<fs_event>& events, int sensor_width, int sensor_height) {
  std::vector<int32_t> columns(static_cast<size_t>(sensor_width)), rows(static_cast<size_t>(sensor_height));
  for (size_t i = 0; i < columns.size(); ++i) columns[i] = static_cast<int32_t>(i) / 2 - 1;
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i) / 2 - 1;
  for (int first = 0; first < 2; ++first)
    for (int channels = 1; channels < 3; ++channels)
      for (int steps : {1, 8, 16, 255})
        for (int level : {FS_KERNELS_BEST, FS_KERNELS_PORTABLE}) {
          const int height = sensor_height / 2 - 1, width = sensor_width / 2 - 1;
          fs_encoder* encoder = fs_encoder_new(first, channels, height, width, steps, 3, sensor_width, sensor_height,
                                               columns.data(), rows.data());
          if (encoder == nullptr || fs_encoder_kernels(encoder, level) != FS_OK) {
            std::printf("encode: refused\n");
            continue;
          }
          std::vector<uint8_t> times(static_cast<size_t>(channels * height * width));
          int64_t counts[3] = {0, 0, 0};
          fs_encode(encoder, events.data(), static_cast<int64_t>(events.size()), 0, 50000, times.data(), counts);
          std::printf("encode %d %d %d: %016llx, %lld %lld %lld\n", first, channels, steps,
                      static_cast<unsigned long long>(digest(times.data(), times.size())),
                      static_cast<long long>(counts[0]), static_cast<long long>(counts[1]),
                      static_cast<long long>(counts[2]));
          fs_encoder_free(encoder);
        }
}

void filter(const std::vector<fs_event>& events, int width, int height) {
  std::vector<uint32_t> places(static_cast<size_t>(width * height));
  for (uint32_t& place : places) {
    const uint32_t x = static_cast<uint32_t>(drawn()) % static_cast<uint32_t>(width);
    const uint32_t y = static_cast<uint32_t>(drawn()) % static_cast<uint32_t>(height);
    place = drawn() % 8 == 0 ? 0xFFFF0001U + static_cast<uint32_t>(drawn() % 3) : y << 16 | x;
  }
  for (int refractory : {0, 700})
    for (int by_polarity = 0; by_polarity < 2; ++by_polarity)
      for (int background : {0, 5000})
        for (bool moved : {false, true}) {
          fs_filter* made = fs_filter_new(width, height, refractory, by_polarity, background, 2, 1000);
          if (made == nullptr || (moved && fs_filter_places(made, places.data()) != FS_OK)) {
            std::printf("filter: refused\n");
            continue;
          }
          std::vector<fs_event> out(events.size());
          int64_t counts[FS_FILTER_REASONS] = {};
          const int64_t n = fs_filter_run(made, events.data(), static_cast<int64_t>(events.size()), out.data(), counts);
          uint64_t hash = digest(counts, sizeof counts);
          for (int64_t i = 0; i < n; ++i) {  // without the padding
            const fs_event& event = out[static_cast<size_t>(i)];
            hash = digest(&event.t, sizeof event.t, hash);
            hash = digest(&event.x, 5, hash);
          }
          std::printf("filter %d %d %d %d: %lld, %016llx\n", refractory, by_polarity, background, moved,
                      static_cast<long long>(n), static_cast<unsigned long long>(hash));
          fs_filter_free(made);
        }
}

void evt3() {
  std::vector<uint16_t> words(20000);
  for (uint16_t& word : words) word = static_cast<uint16_t>(drawn());
  fs_evt3 decoder = {};
  decoder.row = -1;
  std::vector<fs_event> out(500);
  uint64_t hash = digest("", 0);
  int64_t total = 0;
  for (size_t at = 0; at < words.size();) {
    int64_t used = 0;
    const int64_t n = fs_evt3_decode(&decoder, words.data() + at, static_cast<int64_t>(words.size() - at), out.data(),
                                     static_cast<int64_t>(out.size()), &used);
    for (int64_t i = 0; i < n; ++i) {
      const fs_event& event = out[static_cast<size_t>(i)];
      hash = digest(&event.t, sizeof event.t, hash);
      hash = digest(&event.x, 5, hash);
    }
    total += n;
    at += static_cast<size_t>(used);
  }
  std::printf("evt3: %lld events, %lld triggers, %lld early, %016llx\n", static_cast<long long>(total),
              static_cast<long long>(decoder.triggers), static_cast<long long>(decoder.early),
              static_cast<unsigned long long>(hash));
}

void sample(const char* path) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  fs_sampler* sampler = fs_sampler_new(2, 64, 1000000);
  const int taken = fs_sampler_file(sampler, 0, fd);
  std::printf("sampler: %d %d", taken, fs_sampler_start(sampler));
  close(fd);
  struct {
    int64_t before, after;
    fs_sample_file files[2];
  } one;
  int64_t lost = 0, n = 0;
  for (int i = 0; i < 2000 && n == 0; ++i) {
    const timespec pause = {0, 5000000};
    nanosleep(&pause, nullptr);
    n = fs_sampler_take(sampler, &one, 1, &lost);
  }
  std::printf(", %lld, in order %d, %d bytes '%.*s', %d\n", static_cast<long long>(n), one.before <= one.after,
              one.files[0].length, one.files[0].length, one.files[0].bytes, one.files[1].length);
  fs_sampler_free(sampler);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 64;
  const int width = 66, height = 50;
  const std::vector<fs_event> events = events_of(20000, width, height);
  std::printf("abi %d\n", fs_abi_version());
  encode(events, width, height);
  filter(events, width, height);
  evt3();
  sample(argv[1]);
  return 0;
}
