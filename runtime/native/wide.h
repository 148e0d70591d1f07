// Running a network that is wide: see wide.cpp.
#pragma once

#include "network.h"

namespace wide {

// false: an input spike comes after the input's last step. Fills network.outputs, first_spike, and trace if not null.
bool run(fs_network &network, const uint8_t *times, int32_t *first_spike, int32_t *trace);

}  // namespace wide
