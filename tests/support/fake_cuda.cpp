// A libcuda.so.1 without a GPU, for tests of the code that calls one. It is as strict as the real one where that matters:
// device addresses are no addresses of this process, copies and work wait on the stream until it is synchronised, and
// what is used without a context, after it was freed, or beyond its end is an error.
//
// FAKE_CUDA_DEVICES      how many devices there are (1)
// FAKE_CUDA_FAIL         `name=code` separated by commas: these functions fail; `name=code@n`: at their n-th call
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <string>

namespace {
constexpr uint64_t kOffset = 0x7000000000000000ull;
std::map<uint64_t, size_t> device_memory, host_memory;
struct Operation {
    int kind;  // 0: a callback, 1: to the device, 2: from it
    uint64_t device;
    char *host;
    size_t size;
    int (*callback)();
};
std::deque<Operation> stream;
bool initialised = false, current = false, streaming = false;
int contexts = 0;

int refused(const char *name) {
    const char *text = getenv("FAKE_CUDA_FAIL");
    if (text == nullptr) return 0;
    const std::string all = std::string(",") + text, wanted = std::string(",") + name + "=";
    const size_t at = all.find(wanted);
    if (at == std::string::npos) return 0;
    int code = 0, nth = 0;
    const int read = sscanf(all.c_str() + at + wanted.size(), "%d@%d", &code, &nth);
    static std::map<std::string, int> calls;
    return read == 2 && ++calls[name] != nth ? 0 : code;
}

int devices() {
    const char *text = getenv("FAKE_CUDA_DEVICES");
    return text == nullptr ? 1 : atoi(text);
}

bool holds(const std::map<uint64_t, size_t> &memory, uint64_t address, size_t size) {
    auto found = memory.upper_bound(address);
    if (found == memory.begin()) return false;
    --found;
    return address + size <= found->first + found->second;
}

char *real(uint64_t device) { return reinterpret_cast<char *>(device - kOffset); }
}  // namespace

#define BEGIN(name)                         \
    if (int code = refused(name)) return code; \
    if (!initialised) return 3;
#define WITH_CONTEXT(name) \
    BEGIN(name)            \
    if (!current) return 201;

extern "C" {
int cuInit(unsigned) {
    if (int code = refused("cuInit")) return code;
    initialised = true;
    return 0;
}
int cuDriverGetVersion(int *version) {
    *version = 12060;
    return 0;
}
int cuDeviceGetCount(int *count) {
    BEGIN("cuDeviceGetCount")
    *count = devices();
    return 0;
}
int cuDeviceGet(int *device, int ordinal) {
    BEGIN("cuDeviceGet")
    if (ordinal < 0 || ordinal >= devices()) return 101;
    *device = ordinal;
    return 0;
}
int cuDeviceGetName(char *name, int size, int device) {
    BEGIN("cuDeviceGetName")
    snprintf(name, static_cast<size_t>(size), "Pretended GPU %d", device);
    return 0;
}
int cuDeviceGetAttribute(int *value, int which, int) {
    BEGIN("cuDeviceGetAttribute")
    *value = which == 75 ? 8 : which == 76 ? 7 : which == 16 ? 16 : -1;
    return 0;
}
int cuDeviceTotalMem_v2(size_t *size, int) {
    BEGIN("cuDeviceTotalMem_v2")
    *size = size_t{4} << 30;
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int) {
    BEGIN("cuDevicePrimaryCtxRetain")
    ++contexts;
    *context = &contexts;
    return 0;
}
int cuDevicePrimaryCtxRelease(int) {
    --contexts;
    if (contexts == 0) current = false;
    return 0;
}
int cuCtxSetCurrent(void *context) {
    BEGIN("cuCtxSetCurrent")
    if (context != &contexts) return 201;
    current = true;
    return 0;
}
int cuMemAlloc_v2(uint64_t *address, size_t size) {
    WITH_CONTEXT("cuMemAlloc_v2")
    *address = reinterpret_cast<uint64_t>(calloc(1, size)) + kOffset;
    device_memory[*address] = size;
    return 0;
}
int cuMemFree_v2(uint64_t address) {
    WITH_CONTEXT("cuMemFree_v2")
    if (device_memory.erase(address) == 0) return 1;
    free(real(address));
    return 0;
}
int cuMemHostAlloc(void **address, size_t size, unsigned) {
    WITH_CONTEXT("cuMemHostAlloc")
    *address = calloc(1, size);
    host_memory[reinterpret_cast<uint64_t>(*address)] = size;
    return 0;
}
int cuMemFreeHost(void *address) {
    WITH_CONTEXT("cuMemFreeHost")
    if (host_memory.erase(reinterpret_cast<uint64_t>(address)) == 0) return 1;
    free(address);
    return 0;
}
int cuMemcpyHtoDAsync_v2(uint64_t device, void *host, size_t size, void *) {
    WITH_CONTEXT("cuMemcpyHtoDAsync_v2")
    if (!holds(device_memory, device, size) || !holds(host_memory, reinterpret_cast<uint64_t>(host), size)) return 1;
    stream.push_back({1, device, static_cast<char *>(host), size, nullptr});
    return 0;
}
int cuMemcpyDtoHAsync_v2(void *host, uint64_t device, size_t size, void *) {
    WITH_CONTEXT("cuMemcpyDtoHAsync_v2")
    if (!holds(device_memory, device, size) || !holds(host_memory, reinterpret_cast<uint64_t>(host), size)) return 1;
    stream.push_back({2, device, static_cast<char *>(host), size, nullptr});
    return 0;
}
int cuStreamCreate(void **made, unsigned) {
    WITH_CONTEXT("cuStreamCreate")
    streaming = true;
    *made = &stream;
    return 0;
}
int cuStreamSynchronize(void *which) {
    WITH_CONTEXT("cuStreamSynchronize")
    if (which != &stream || !streaming) return 400;
    while (!stream.empty()) {
        const Operation next = stream.front();
        stream.pop_front();
        if (next.kind == 0) {
            if (int code = next.callback()) return code;
        } else if (!holds(device_memory, next.device, next.size)) {
            return 700;
        } else if (next.kind == 1) {
            memcpy(real(next.device), next.host, next.size);
        } else {
            memcpy(next.host, real(next.device), next.size);
        }
    }
    return 0;
}
int cuStreamDestroy_v2(void *) {
    WITH_CONTEXT("cuStreamDestroy_v2")
    streaming = false;
    return 0;
}
int cuGetErrorName(int code, const char **text) {
    *text = code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : code == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : nullptr;
    return *text == nullptr ? 1 : 0;
}
int cuGetErrorString(int code, const char **text) {
    *text = code == 2 ? "out of memory" : code == 700 ? "an illegal memory access was encountered" : nullptr;
    return *text == nullptr ? 1 : 0;
}

// What the pretended TensorRT does on the device, in the stream's order.
int fake_enqueue(void *which, int (*callback)()) {
    if (which != &stream || !streaming) return 400;
    stream.push_back({0, 0, nullptr, 0, callback});
    return 0;
}
int fake_copy(uint64_t device, char *host, size_t size, int to_device) {
    if (!holds(device_memory, device, size)) return 700;
    memcpy(to_device ? real(device) : host, to_device ? host : real(device), size);
    return 0;
}
int fake_held() { return static_cast<int>(device_memory.size() + host_memory.size()) + contexts + streaming; }
}
