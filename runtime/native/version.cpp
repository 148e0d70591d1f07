#include "firstspike.h"

// The ABI's version: the Python side refuses a library that was built from other sources.
extern "C" int fs_abi_version() { return 10; }
