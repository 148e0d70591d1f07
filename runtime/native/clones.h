// FS_CLONES before a function compiles it for wider vectors too, chosen once when the library is loaded: one portable
// binary that still uses what the machine has. Needs GCC and glibc on x86-64; elsewhere the one version is built.
#pragma once

// Sanitizers instrument the resolver, which runs before they are ready.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && !defined(FIRSTSPIKE_SANITIZE)
#define FS_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FS_CLONES
#endif
#define FS_INLINE [[gnu::always_inline]] inline
