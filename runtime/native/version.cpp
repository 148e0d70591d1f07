// The ABI's version: the Python side refuses a library that was built from other sources.
extern "C" __attribute__((visibility("default"))) int fs_abi_version() { return 1; }
