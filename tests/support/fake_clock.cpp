// Preloaded into a program: its wall clock runs FAKE_CLOCK's seconds ahead (a file with an int64, which may change at any
// time), and nothing else changes: monotonic clocks, and the kernel's own, which timed waits go by, stay. So a program that
// waits until a time of the wall clock waits ten days, or not at all.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace {

int64_t ahead() {
  static const volatile int64_t *const seconds = [] {
    static const int64_t none = 0;
    const char *const path = std::getenv("FAKE_CLOCK");
    const int file = path == nullptr ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return &none;
    void *const at = mmap(nullptr, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    return at == MAP_FAILED ? &none : static_cast<const int64_t *>(at);
  }();
  return *seconds;
}

}  // namespace

extern "C" int clock_gettime(clockid_t id, timespec *at) noexcept {
  const int result = static_cast<int>(syscall(SYS_clock_gettime, id, at));
  if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) at->tv_sec += ahead();
  return result;
}

extern "C" int gettimeofday(timeval *at, void *) noexcept {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  *at = {now.tv_sec, now.tv_nsec / 1000};
  return 0;
}

extern "C" time_t time(time_t *at) noexcept {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  if (at != nullptr) *at = now.tv_sec;
  return now.tv_sec;
}
