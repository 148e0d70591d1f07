// A libnvidia-ml.so.1 without a GPU, as nvml.h declares it, for tests of the code that calls it.
//
// FAKE_NVML_DEVICES   how many cards there are (1)
// FAKE_NVML_FAIL      `name=code` separated by commas: these functions fail, such as nvmlInit_v2=9
// FAKE_NVML_ENERGY    mJ that the counter says, FAKE_NVML_POWER mW; read at each call
#include <cstdlib>
#include <cstring>
#include <string>

namespace {
int initialised = 0;

int refused(const char *name) {
    const char *text = getenv("FAKE_NVML_FAIL");
    if (text == nullptr) return 0;
    const std::string all = std::string(",") + text, wanted = std::string(",") + name + "=";
    const size_t at = all.find(wanted);
    return at == std::string::npos ? 0 : atoi(all.c_str() + at + wanted.size());
}

unsigned long long number(const char *name, unsigned long long otherwise) {
    const char *text = getenv(name);
    return text == nullptr ? otherwise : strtoull(text, nullptr, 10);
}
}  // namespace

extern "C" {
int nvmlInit_v2() {
    initialised = 1;
    return refused("nvmlInit_v2");
}

const char *nvmlErrorString(int code) {
    switch (code) {
        case 3: return "Not Supported";
        case 4: return "Insufficient Permissions";
        case 9: return "Driver Not Loaded";
        case 15: return "GPU is lost";
        default: return "Unknown Error";
    }
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = static_cast<unsigned>(number("FAKE_NVML_DEVICES", 1));
    return initialised ? refused("nvmlDeviceGetCount_v2") : 1;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    *device = reinterpret_cast<void *>(0x7000000000000000ull + index);  // what is cut to 32 bits is another
    return refused("nvmlDeviceGetHandleByIndex_v2");
}

static int known(void *device) {
    return reinterpret_cast<unsigned long long>(device) >> 32 == 0x70000000ull;
}

int nvmlDeviceGetName(void *device, char *name, unsigned int length) {
    if (!known(device)) return 2;
    strncpy(name, "NVIDIA Fake 2000", length);
    return refused("nvmlDeviceGetName");
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *energy) {
    if (!known(device)) return 2;
    *energy = number("FAKE_NVML_ENERGY", 9000000000000ull);
    return refused("nvmlDeviceGetTotalEnergyConsumption");
}

int nvmlDeviceGetPowerUsage(void *device, unsigned int *power) {
    if (!known(device)) return 2;
    *power = static_cast<unsigned>(number("FAKE_NVML_POWER", 61250));
    return refused("nvmlDeviceGetPowerUsage");
}
}
