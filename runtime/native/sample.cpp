// Reads a meter's files at a rate of its own: a thread that the interpreter's lock never stops, which keeps what it read
// until somebody takes it.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "firstspike.h"

namespace {

using Clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC, which is Python's time.monotonic_ns()

constexpr int most_files = 64;
constexpr int64_t most_room = int64_t{1} << 20;
constexpr double golden = 0.6180339887498949;
constexpr int64_t most_slack_ns = 1'000'000;  // that a wake-up may come late: what the interval is later must not matter

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
}

fs_sample_file read_file(int fd) {
  fs_sample_file found{};
  char bytes[sizeof found.bytes + 1];
  const ssize_t got = pread(fd, bytes, sizeof bytes, 0);
  if (got < 0) {
    found.length = -errno;
  } else if (got > static_cast<ssize_t>(sizeof found.bytes)) {
    found.length = -EOVERFLOW;  // a number that was cut off would be another number
  } else {
    found.length = static_cast<int32_t>(got);
    std::memcpy(found.bytes, bytes, static_cast<size_t>(got));
  }
  return found;
}

}  // namespace

struct fs_sampler {
  fs_sampler(int files, int64_t capacity, int64_t interval)
      : fds(static_cast<size_t>(files), -1), next(fds), changed(static_cast<size_t>(files)), room(capacity),
        interval_ns(interval), times(static_cast<size_t>(2 * capacity)),
        kept(static_cast<size_t>(files * capacity)), latest(static_cast<size_t>(files)) {}

  ~fs_sampler() {
    for (size_t file = 0; file < fds.size(); ++file) {
      if (fds[file] >= 0) close(fds[file]);
      if (changed[file] && next[file] >= 0) close(next[file]);
    }
  }

  // Cheap wake-ups: a tenth of the interval of now, up to a limit, since a long one's would keep a short one waiting.
  void allow_slack() {
    if (slack_for_ns == interval_ns) return;
    slack_for_ns = interval_ns;
    prctl(PR_SET_TIMERSLACK, static_cast<unsigned long>(std::min(interval_ns / 10, most_slack_ns)));
  }

  // Tells the thread to end, and waits until it has, or is seen to hang. False: it frees this itself when it goes on.
  bool end() {
    if (!thread.joinable()) return true;
    {
      std::unique_lock lock(mutex);
      stopping = true;
      wake.notify_one();
      if (!ended.wait_for(lock, std::chrono::milliseconds(FS_SAMPLER_END_MS), [this] { return done; })) {
        left_alone = true;
        thread.detach();
        return false;
      }
    }
    thread.join();
    return true;
  }

  // Reads until it is to end. True: nobody waited for that, and it is to be freed.
  bool run() {
    std::unique_lock lock(mutex);
    // Nobody's work is interrupted. This and the slack need not be allowed, nor does it matter if they are not.
    const sched_param none{};
    pthread_setschedparam(pthread_self(), SCHED_BATCH, &none);
    double turn = 0.0;
    auto due = Clock::now();
    while (!stopping) {
      take_descriptors();
      lock.unlock();
      // Without the lock: a sensor may take its time.
      const int64_t before = now_ns();
      for (size_t file = 0; file < fds.size() && !stopping; ++file) latest[file] = read_file(fds[file]);
      const int64_t after = now_ns();
      lock.lock();
      if (stopping) break;
      const auto place = static_cast<size_t>(taken % room);
      times[2 * place] = before;
      times[2 * place + 1] = after;
      std::copy(latest.begin(), latest.end(), kept.begin() + static_cast<std::ptrdiff_t>(place * fds.size()));
      ++taken;
      turn += golden;
      if (turn >= 1.0) turn -= 1.0;
      const double factor = 1.0 + FS_SAMPLER_JITTER * (2.0 * turn - 1.0);
      const auto last = due;
      // The interval may change while this waits.
      for (;;) {
        const auto wait = std::chrono::nanoseconds(static_cast<int64_t>(static_cast<double>(interval_ns) * factor));
        const auto now = Clock::now();
        due = std::max(last + wait, now - wait);  // what was missed is not made up for
        if (stopping || due <= now) break;
        allow_slack();
        wake.wait_until(lock, due);
      }
    }
    done = true;
    ended.notify_one();
    return left_alone;
  }

  void take_descriptors() {
    for (size_t file = 0; file < fds.size(); ++file)
      if (changed[file]) {
        if (fds[file] >= 0) close(fds[file]);
        fds[file] = next[file];
        changed[file] = false;
      }
  }

  std::vector<int> fds;   // the thread's own
  std::vector<int> next;  // to be taken where `changed`
  std::vector<bool> changed;
  int64_t room, interval_ns, taken = 0, given = 0, slack_for_ns = 0;
  std::vector<int64_t> times;
  std::vector<fs_sample_file> kept, latest;
  std::atomic<bool> stopping = false;
  bool done = false, left_alone = false;
  std::mutex mutex;  // of all but `fds` and `latest`
  std::condition_variable wake, ended;
  std::thread thread;
};

extern "C" fs_sampler *fs_sampler_new(int files, int64_t room, int64_t interval_ns) {
  if (files < 1 || files > most_files || room < 1 || room > most_room || interval_ns < 1) return nullptr;
  try {
    return new fs_sampler(files, room, interval_ns);
  } catch (const std::bad_alloc &) {
    return nullptr;
  }
}

extern "C" void fs_sampler_free(fs_sampler *sampler) {
  if (sampler->end()) delete sampler;
}

extern "C" int fs_sampler_start(fs_sampler *sampler) {
  if (sampler->thread.joinable()) return FS_REFUSED;
  // Signals are the interpreter's main thread's.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int result = FS_OK;
  try {
    sampler->thread = std::thread([sampler] {
      if (sampler->run()) delete sampler;
    });
  } catch (const std::system_error &) {
    result = FS_REFUSED;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return result;
}

extern "C" int fs_sampler_file(fs_sampler *sampler, int file, int fd) {
  if (file < 0 || static_cast<size_t>(file) >= sampler->next.size()) return FS_REFUSED;
  const int own = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (fd >= 0 && own < 0) return FS_REFUSED;
  const std::lock_guard lock(sampler->mutex);
  const auto place = static_cast<size_t>(file);
  if (sampler->changed[place] && sampler->next[place] >= 0) close(sampler->next[place]);
  sampler->next[place] = own;
  sampler->changed[place] = true;
  return FS_OK;
}

extern "C" void fs_sampler_interval(fs_sampler *sampler, int64_t interval_ns) {
  {
    const std::lock_guard lock(sampler->mutex);
    if (interval_ns == sampler->interval_ns || interval_ns < 1) return;
    sampler->interval_ns = interval_ns;
  }
  sampler->wake.notify_one();
}

extern "C" int64_t fs_sampler_take(fs_sampler *sampler, void *samples, int64_t most, int64_t *lost) {
  const std::lock_guard lock(sampler->mutex);
  const int64_t oldest = sampler->taken - sampler->room;
  *lost = oldest > sampler->given ? oldest - sampler->given : 0;
  sampler->given += *lost;
  const auto files = sampler->next.size();
  auto *out = static_cast<char *>(samples);
  int64_t n = 0;
  for (; n < most && sampler->given < sampler->taken; ++n, ++sampler->given) {
    const auto place = static_cast<size_t>(sampler->given % sampler->room);
    std::memcpy(out, &sampler->times[2 * place], 2 * sizeof(int64_t));
    out += 2 * sizeof(int64_t);
    std::memcpy(out, &sampler->kept[place * files], files * sizeof(fs_sample_file));
    out += files * sizeof(fs_sample_file);
  }
  return n;
}
