/* The C interface of libfirstspike: everything that Python calls. Plain C types, no exceptions, no Python.
 *
 * Whenever a signature here changes, raise fs_abi_version() and ABI_VERSION in runtime/firstspike/native.py together.
 */
#ifndef FIRSTSPIKE_H
#define FIRSTSPIKE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#define FS_API __attribute__((visibility("default")))

FS_API int fs_abi_version(void);

/* One event, as the dtype EVENT in runtime/firstspike/types.py. */
typedef struct {
  int64_t t;     /* µs */
  uint16_t x, y; /* pixels */
  uint8_t p;     /* not 0: ON */
  uint8_t padding[3];
} fs_event;

/* Results of the functions below that return int. */
enum { FS_OK = 0, FS_REFUSED = 1, FS_NO_MEMORY = 2 };

/* Which vector units an encoder or a network uses: FS_KERNELS_BEST unless told, by fs_encoder_kernels() and
 * fs_network_kernels(). Every level gives the same results. FS_REFUSED: this build or this machine has it not. */
enum {
  FS_KERNELS_BEST = -1,
  FS_KERNELS_PORTABLE = 0,
  FS_KERNELS_X86_64_V3 = 3,
  FS_KERNELS_X86_64_V4 = 4, /* and AVX-512 VNNI */
  FS_KERNELS_ARMV8_DOTPROD = 82
};

/* ---- Encoding: a window of events to one spike time a pixel. -------------------------------------------------- */

typedef struct fs_encoder fs_encoder;

/* columns[sensor_width] and rows[sensor_height] give each sensor coordinate's place in the model, -1 where cropped.
 * channels: 1 merges the polarities, 2 is OFF then ON. first: 0 counts events (count_scale of them are p = 1), 1 takes
 * the first one's time. NULL: a value is out of range, or no memory. The tables are copied. */
FS_API fs_encoder *fs_encoder_new(int first, int channels, int height, int width, int steps, int count_scale,
                                  int sensor_width, int sensor_height, const int32_t *columns, const int32_t *rows);
FS_API void fs_encoder_free(fs_encoder *encoder);
FS_API int fs_encoder_kernels(fs_encoder *encoder, int level);

/* Writes channels*height*width spike times to `times`, and to `counts` how many of the events fell onto the model, were
 * outside the sensor, and were cropped, and how many of the times are before `steps`. t_start < t_end. An encoder serves one thread at a time. */
FS_API void fs_encode(fs_encoder *encoder, const fs_event *events, int64_t n, int64_t t_start, int64_t t_end,
                      uint8_t *times, int64_t counts[4]);

/* ---- Decoding: EVT 3.0, whose words change a state or are events. --------------------------------------------- */

/* What EVT 3.0 keeps between words. At the start: row -1, all else 0. */
typedef struct {
  int64_t high;                       /* TIME_HIGH, unwrapped: units of 4096 µs */
  int64_t triggers;                   /* external triggers so far */
  int64_t early;                      /* events so far before the first time or row: left out */
  uint32_t low, column, polarity, timed;
  int32_t row, padding;
} fs_evt3;

/* Decodes words until they end or `events` might not hold what one more word can be (12 events); returns how many events
 * were written, and in `used` how many words were taken: at least one if room >= 12 and n > 0. */
FS_API int64_t fs_evt3_decode(fs_evt3 *state, const uint16_t *words, int64_t n, fs_event *events, int64_t room,
                              int64_t *used);

/* ---- The network: runtime/firstspike/ttfs/definition.py says what it computes. -------------------------------- */

typedef struct fs_network fs_network;

/* Build: new, add each layer in order, finish; then run any number of times. Weights are copied. On FS_REFUSED
 * fs_network_error() names the fault. A network serves one thread at a time; distinct ones are independent. */
FS_API fs_network *fs_network_new(int quartz, int channels, int height, int width, int input_steps);
FS_API int fs_network_add_conv(fs_network *network, const int8_t *weights, const int16_t *bias, int outputs,
                               int kernel_height, int kernel_width, int stride_y, int stride_x, int padding_y,
                               int padding_x, int steps, int ramp, int rounding);
FS_API int fs_network_add_dense(fs_network *network, const int8_t *weights, const int16_t *bias, int outputs, int steps,
                                int ramp, int rounding);
FS_API int fs_network_add_maxpool(fs_network *network, int kernel_height, int kernel_width, int stride_y, int stride_x);
FS_API int fs_network_add_flatten(fs_network *network);
FS_API int fs_network_finish(fs_network *network);
FS_API const char *fs_network_error(const fs_network *network);
FS_API void fs_network_free(fs_network *network);

FS_API int fs_network_kernels(fs_network *network, int level);

/* times: channels*height*width, each at most input_steps (otherwise FS_REFUSED, and nothing is written).
 * potential, first_spike: one for each output neuron. trace: NULL, or room for every layer's spike steps, layer after
 * layer, each (channels, height, width). Allocates nothing. */
FS_API int fs_network_run(fs_network *network, const uint8_t *times, int32_t *potential, int32_t *first_spike,
                          int32_t *trace);

/* ---- Rate coding, the baseline: runtime/firstspike/ttfs/rate.py says what it computes. ------------------------- */

typedef struct fs_rate fs_rate;

enum { FS_RATE_CONV = 0, FS_RATE_DENSE = 1, FS_RATE_MAXPOOL = 2, FS_RATE_FLATTEN = 3 };

/* One layer; what its kind does not have is not read. Weights (outputs, channels, kernel_y, kernel_x) or (outputs, inputs),
 * and biases, are copied. `start` is each potential's value at the beginning. */
typedef struct {
  int32_t kind, outputs, kernel_y, kernel_x, stride_y, stride_x, padding_y, padding_x, threshold, start;
  const int8_t *weights;
  const int16_t *bias;
} fs_rate_layer;

/* NULL: refused, and `error` (room bytes, 1 or more) says why. One network serves one thread at a time. */
FS_API fs_rate *fs_rate_new(int channels, int height, int width, int input_steps, int duration,
                            const fs_rate_layer *layers, int n, char *error, int room);
FS_API void fs_rate_free(fs_rate *network);

/* As fs_network_run; counts: NULL, or room for every layer's spike counts, layer after layer. Where a time is after
 * input_steps: FS_REFUSED, and nothing is written. */
FS_API int fs_rate_run(fs_rate *network, const uint8_t *times, int32_t *potential, int32_t *first_spike, int32_t *counts);

/* ---- CUBA LIF networks: runtime/firstspike/cuba/definition.py says what they compute. --------------------------- */

typedef struct fs_cuba fs_cuba;

enum { FS_CUBA_CONV = 0, FS_CUBA_POOL = 1, FS_CUBA_FLATTEN = 2 };

/* One layer; what its kind does not have is not read. A dense layer is a convolution whose kernel is 1×1 on an input of
 * one place. Weights (outputs, channels, kernel_y, kernel_x), (kernel_y, kernel_x) for a pool, biases and delays (one for each
 * output; delay may be NULL) are copied. */
typedef struct {
  int32_t kind, outputs, kernel_y, kernel_x, stride_y, stride_x, padding_y, padding_x;
  int32_t current_decay, voltage_decay, threshold;
  const int16_t *weights;
  const int16_t *bias;
  const uint8_t *delay;
} fs_cuba_layer;

/* NULL: refused, and `error` (room bytes, 1 or more) says why. One network serves one thread at a time. */
FS_API fs_cuba *fs_cuba_new(int channels, int height, int width, const fs_cuba_layer *layers, int n, char *error, int room);
FS_API void fs_cuba_free(fs_cuba *network);

/* frames: steps frames of (channels, height, width), 0 or 1. spikes: the last layer's, in the same form. counts: spikes
 * of each layer. wraps: one, how often a current left 24 bits. trace: NULL, or room for every layer's spikes, layer after
 * layer. FS_REFUSED: a value above 1, or too many steps; what was written then means nothing. Allocates nothing. */
FS_API int fs_cuba_run(fs_cuba *network, const uint8_t *frames, int steps, uint8_t *spikes, int64_t *counts, int64_t *wraps,
                       uint8_t *trace);

/* ---- Filters: runtime/firstspike/filters/definition.py says what they drop. ------------------------------------ */

typedef struct fs_filter fs_filter;

/* Why an event was dropped: places in `counts`. A place of 0xFFFF0000 + reason drops the pixel's events for it. */
enum {
  FS_FILTER_OUTSIDE = 0,
  FS_FILTER_HOT_PIXEL = 1,
  FS_FILTER_UNDISTORTED = 2,
  FS_FILTER_REGION = 3,
  FS_FILTER_REFRACTORY = 4,
  FS_FILTER_BACKGROUND = 5,
  FS_FILTER_REASONS = 6
};

/* At most 2^24 pixels, periods of at most 2^26 us (0: off), support 1 to 8, back_us at most 2^24. NULL: a value is out of
 * range, or no memory. A filter serves one thread at a time. */
FS_API fs_filter *fs_filter_new(int width, int height, int refractory_us, int by_polarity, int background_us,
                                int support, int64_t back_us);
FS_API void fs_filter_free(fs_filter *filter);

/* places[height*width]: y << 16 | x where a pixel's events go, or why they are dropped. Copied. Without it all stay. */
FS_API int fs_filter_places(fs_filter *filter, const uint32_t *places);

/* Writes the events that pass to `out`, which has room for n and may be `events`, and adds to `counts`. Returns how many
 * passed; -1: a time is beyond 2^52 us, and the filter is of no more use. */
FS_API int64_t fs_filter_run(fs_filter *filter, const fs_event *events, int64_t n, fs_event *out,
                             int64_t counts[FS_FILTER_REASONS]);
/* ---- Meters: files that a thread reads again and again. runtime/firstspike/energy/reader.py says what for. -------- */

typedef struct fs_sampler fs_sampler;

/* What one file said. */
typedef struct {
  int32_t length; /* of `bytes`; or -errno: EOVERFLOW where it held more than fits */
  char bytes[28];
} fs_sample_file;

/* Intervals differ by so much to either side, so that they cannot keep step with a load that comes in bursts. */
#define FS_SAMPLER_JITTER 0.1
/* A thread whose read hangs in the kernel is waited for so long when it is to end. */
#define FS_SAMPLER_END_MS 2000

/* room: samples that are kept; when nobody takes them the oldest are lost. NULL: a value is out of range, or no memory.
 * start: begins to read; FS_REFUSED: no thread could be had, or it runs already. free: ends it, and closes its files;
 * of a thread that hangs once its read returns.
 * The functions may be called from any thread. */
FS_API fs_sampler *fs_sampler_new(int files, int64_t room, int64_t interval_ns);
FS_API void fs_sampler_free(fs_sampler *sampler);
FS_API int fs_sampler_start(fs_sampler *sampler);

/* From the next sample on file 0, 1 … is read through a duplicate of `fd`, or is -EBADF if that is -1, as at first.
 * FS_REFUSED: no such file, or no descriptor could be had. */
FS_API int fs_sampler_file(fs_sampler *sampler, int file, int fd);

/* Between two samples, from the last one on. */
FS_API void fs_sampler_interval(fs_sampler *sampler, int64_t interval_ns);

/* Writes the oldest samples, `most` at most, and returns how many: each two int64, CLOCK_MONOTONIC in ns before and after
 * its reads, and a fs_sample_file for each file. lost: how many went before them that nobody can have any more. */
FS_API int64_t fs_sampler_take(fs_sampler *sampler, void *samples, int64_t most, int64_t *lost);

#ifdef __cplusplus
}
#endif
#endif
