// Convolution, bias and 2x2 max pooling of LeNet's first two layers for training, sixteen images to a vector; and the
// gated neuron's quantiser in one pass.
//
// Tensors are (n / 16, channels, height, width, 16): the last axis is sixteen images, so every operation is a full
// vector whatever the channel count. PyTorch's kernels block channels by 16 and leave most of a register idle at 6.
// Plain C ABI, called by blocked.py, which owns all memory and has checked all shapes.

#include <cstring>

namespace {

constexpr int lanes = 16;
constexpr int kernel = 5;
using Vector = float __attribute__((vector_size(lanes * sizeof(float))));
using Mask = int __attribute__((vector_size(lanes * sizeof(int))));

inline Vector splat(float value) { return Vector{} + value; }

template <int In, int Out, int Side>
struct Layer {
    static constexpr int wide = Side - kernel + 1;  // before pooling
    static constexpr int half = wide / 2;
    static constexpr int group = 6;  // output channels at a time: 4 positions x 6 sums fit the 32 registers
    static_assert(Out % group == 0 && wide % 2 == 0);

    static void forward(const Vector* x, const float* w, const float* bias, Vector* pooled, Mask* where) {
        for (int out = 0; out < Out; out += group)
            for (int py = 0; py < half; ++py)
                for (int px = 0; px < half; ++px) {
                    Vector sum[4][group];
#pragma GCC unroll 6
                    for (int o = 0; o < group; ++o) {
                        const Vector start = splat(bias ? bias[out + o] : 0.0f);
#pragma GCC unroll 4
                        for (int at = 0; at < 4; ++at) sum[at][o] = start;
                    }
                    for (int in = 0; in < In; ++in)
                        for (int ky = 0; ky < kernel; ++ky) {
                            const Vector* row = x + (in * Side + 2 * py + ky) * Side + 2 * px;
                            const float* weight = w + ((out * In + in) * kernel + ky) * kernel;
#pragma GCC unroll 5
                            for (int kx = 0; kx < kernel; ++kx) {
#pragma GCC unroll 6
                                for (int o = 0; o < group; ++o) {
                                    const Vector one = splat(weight[o * In * kernel * kernel + kx]);
                                    sum[0][o] += row[kx] * one;
                                    sum[1][o] += row[kx + 1] * one;
                                    sum[2][o] += row[kx + Side] * one;
                                    sum[3][o] += row[kx + Side + 1] * one;
                                }
                            }
                        }
                    for (int o = 0; o < group; ++o) {
                        Vector best = sum[0][o];
                        Mask index{};
                        for (int at = 1; at < 4; ++at) {
                            const Mask more = sum[at][o] > best;
                            best = more ? sum[at][o] : best;
                            index = more ? Mask{} + at : index;
                        }
                        const int place = ((out + o) * half + py) * half + px;
                        pooled[place] = best;
                        where[place] = index;
                    }
                }
    }

    // The gradient before pooling: each pooled one goes to the place that won.
    static void scatter(const Vector* given, const Mask* where, Vector* full, Vector* bias) {
        for (int out = 0; out < Out; ++out) {
            Vector sum{};
            for (int py = 0; py < half; ++py)
                for (int px = 0; px < half; ++px) {
                    const int place = (out * half + py) * half + px;
                    const Vector value = given[place];
                    sum += value;
                    for (int at = 0; at < 4; ++at)
                        full[(out * wide + 2 * py + at / 2) * wide + 2 * px + at % 2] =
                            where[place] == at ? value : Vector{};
                }
            bias[out] += sum;
        }
    }

    static void to_weights(const Vector* x, const Vector* full, Vector* w) {
        constexpr int few = 3;
        for (int out = 0; out < Out; out += few)
            for (int in = 0; in < In; ++in)
                for (int ky = 0; ky < kernel; ++ky) {
                    Vector sum[few][kernel];
#pragma GCC unroll 3
                    for (int o = 0; o < few; ++o)
#pragma GCC unroll 5
                        for (int kx = 0; kx < kernel; ++kx)
                            sum[o][kx] = w[(((out + o) * In + in) * kernel + ky) * kernel + kx];
                    for (int y = 0; y < wide; ++y) {
                        const Vector* row = x + (in * Side + y + ky) * Side;
                        const Vector* back = full + (out * wide + y) * wide;
                        for (int at = 0; at < wide; ++at) {
#pragma GCC unroll 3
                            for (int o = 0; o < few; ++o) {
                                const Vector one = back[o * wide * wide + at];
#pragma GCC unroll 5
                                for (int kx = 0; kx < kernel; ++kx) sum[o][kx] += row[at + kx] * one;
                            }
                        }
                    }
#pragma GCC unroll 3
                    for (int o = 0; o < few; ++o)
#pragma GCC unroll 5
                        for (int kx = 0; kx < kernel; ++kx)
                            w[(((out + o) * In + in) * kernel + ky) * kernel + kx] = sum[o][kx];
                }
    }

    static void to_input(const Vector* full, const float* w, Vector* x) {
        for (int in = 0; in < In; ++in)
            for (int y = 0; y < Side; ++y) {
                Vector sum[Side] = {};
                for (int ky = 0; ky < kernel; ++ky) {
                    if (y - ky < 0 || y - ky >= wide) continue;
                    for (int out = 0; out < Out; ++out) {
                        const Vector* back = full + (out * wide + y - ky) * wide;
                        const float* weight = w + ((out * In + in) * kernel + ky) * kernel;
#pragma GCC unroll 5
                        for (int kx = 0; kx < kernel; ++kx) {
                            const Vector one = splat(weight[kx]);
#pragma GCC unroll 24
                            for (int at = 0; at < wide; ++at) sum[at + kx] += back[at] * one;
                        }
                    }
                }
                std::memcpy(x + (in * Side + y) * Side, sum, sizeof sum);
            }
    }

    static void all_forward(long blocks, const Vector* x, const float* w, const float* bias, Vector* pooled,
                            Mask* where) {
        for (long block = 0; block < blocks; ++block)
            forward(x + block * In * Side * Side, w, bias, pooled + block * Out * half * half,
                    where + block * Out * half * half);
    }

    // Gradients to the weights and the biases come as sums over blocks, a value for each of the 16 lanes.
    static void all_backward(long blocks, const Vector* x, const float* w, const Vector* given, const Mask* where,
                             Vector* to_w, Vector* to_bias, Vector* to_x) {
        alignas(64) static thread_local Vector full[Out * wide * wide];
        for (long block = 0; block < blocks; ++block) {
            scatter(given + block * Out * half * half, where + block * Out * half * half, full, to_bias);
            to_weights(x + block * In * Side * Side, full, to_w);
            if (to_x) to_input(full, w, to_x + block * In * Side * Side);
        }
    }
};

struct Neuron {
    float rate;   // potential for an activation of 1: T / (what an integer potential is worth)
    float ramp;   // S
    float steps;  // T
    float step;   // activation that one step of readout stands for
};

// a = clip(floor((u + floor(S / 2)) / S), 0, T) with u = z T / unit. A true division: a reciprocal may miss a tie.
inline float quantised(const Neuron& one, float z) {
    const float potential = __builtin_nearbyintf(z * one.rate) + __builtin_floorf(one.ramp * 0.5f);
    const float a = __builtin_floorf(potential / one.ramp);
    return a < 0.0f ? 0.0f : a > one.steps ? one.steps : a;
}

using First = Layer<1, 6, 28>;
using Second = Layer<6, 12, 12>;

}  // namespace

extern "C" {

void forge_forward(int layer, long blocks, const float* x, const float* w, const float* bias, float* pooled,
                   int* where) {
    auto run = layer == 0 ? First::all_forward : Second::all_forward;
    run(blocks, reinterpret_cast<const Vector*>(x), w, bias, reinterpret_cast<Vector*>(pooled),
        reinterpret_cast<Mask*>(where));
}

void forge_backward(int layer, long blocks, const float* x, const float* w, const float* given, const int* where,
                    float* to_w, float* to_bias, float* to_x) {
    auto run = layer == 0 ? First::all_backward : Second::all_backward;
    run(blocks, reinterpret_cast<const Vector*>(x), w, reinterpret_cast<const Vector*>(given),
        reinterpret_cast<const Mask*>(where), reinterpret_cast<Vector*>(to_w), reinterpret_cast<Vector*>(to_bias),
        reinterpret_cast<Vector*>(to_x));
}

void forge_spike(long count, const float* neuron, const float* z, float* out) {
    const Neuron one{neuron[0], neuron[1], neuron[2], neuron[3]};
    for (long at = 0; at < count; ++at) out[at] = quantised(one, z[at]) * one.step;
}

// Straight-through to z within the range; returns the gradient to the step by LSQ, for `count` a multiple of 16.
float forge_spike_back(long count, const float* neuron, const float* z, const float* given, float* to_z) {
    const Neuron one{neuron[0], neuron[1], neuron[2], neuron[3]};
    float sums[lanes] = {};
    for (long begin = 0; begin < count; begin += lanes)
        for (int lane = 0; lane < lanes; ++lane) {
            const long at = begin + lane;
            const float v = z[at] / one.step;
            const bool inside = v >= 0.0f && v <= one.steps;
            to_z[at] = inside ? given[at] : 0.0f;
            sums[lane] += given[at] * (quantised(one, z[at]) - (inside ? v : 0.0f));
        }
    float sum = 0.0f;
    for (float part : sums) sum += part;
    return sum;
}
}
