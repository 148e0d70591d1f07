// How a network that is complete lies in memory: see arrange.cpp.
#pragma once

#include "network.h"

// Makes what fs_network_run needs beside the layers themselves: planes, packed weights, scratch.
void arrange(fs_network &network);
