/* A wall clock that can be set for some processes alone: preloaded (LD_PRELOAD) into a stack's
 * processes, which all read the seconds to add from one file, LIMELIGHT_CLOCK_FILE (a double).
 *
 * The wall clock moves for whoever reads it; the monotonic one does not, as when a machine's clock
 * is set. A wait until an instant of the wall clock is a wait until that instant of the true one, so
 * it ends when its caller expects it to; waits that are under way at a jump do not notice it.
 * libfaketime 0.9.10 does the same, but fails every sleep until an instant of the monotonic clock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile double *added;

__attribute__((constructor)) static void open_clock(void) {
    const char *path = getenv("LIMELIGHT_CLOCK_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof(double), PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) added = page;
    close(file);
}

static double offset(void) { return added ? *added : 0.0; }

static struct timespec moved(struct timespec at, double seconds) {
    at.tv_sec += (time_t)seconds; /* whole seconds are enough */
    return at;
}

static int is_wall(clockid_t clock) {
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
}

/* The kernel itself, past the names below. */
static int true_gettime(clockid_t clock, struct timespec *now) {
    static int (*next)(clockid_t, struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "clock_gettime");
    return next(clock, now);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = true_gettime(clock, now);
    if (!failed && is_wall(clock)) *now = moved(*now, offset());
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec at;
    (void)zone;
    if (!clock_gettime(CLOCK_REALTIME, &at)) {
        now->tv_sec = at.tv_sec;
        now->tv_usec = at.tv_nsec / 1000;
    }
    return 0;
}

time_t time(time_t *where) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (where) *where = at.tv_sec;
    return at.tv_sec;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *at, struct timespec *left) {
    static int (*next)(clockid_t, int, const struct timespec *, struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "clock_nanosleep");
    if (!is_wall(clock) || !(flags & TIMER_ABSTIME)) return next(clock, flags, at, left);
    struct timespec until = moved(*at, -offset());
    return next(clock, flags, &until, left);
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict at) {
    /* A condition may have been made for the monotonic clock; its instants are near to boot. */
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!next) next = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!next) next = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    struct timespec now, until = *at;
    true_gettime(CLOCK_MONOTONIC, &now);
    if (at->tv_sec > now.tv_sec + 1000000000) until = moved(*at, -offset());
    return next(condition, mutex, &until);
}

int pthread_cond_clockwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           clockid_t clock, const struct timespec *restrict at) {
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    struct timespec until = is_wall(clock) ? moved(*at, -offset()) : *at;
    return next(condition, mutex, clock, &until);
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict at) {
    static int (*next)(pthread_mutex_t *, const struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "pthread_mutex_timedlock");
    struct timespec until = moved(*at, -offset());
    return next(mutex, &until);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict at) {
    static int (*next)(sem_t *, const struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "sem_timedwait");
    struct timespec until = moved(*at, -offset());
    return next(semaphore, &until);
}

int sem_clockwait(sem_t *restrict semaphore, clockid_t clock, const struct timespec *restrict at) {
    static int (*next)(sem_t *, clockid_t, const struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "sem_clockwait");
    struct timespec until = is_wall(clock) ? moved(*at, -offset()) : *at;
    return next(semaphore, clock, &until);
}

/* Abseil waits by futexes, in gRPC and in Ray. Its declaration has no arguments beyond the first. */
long any_syscall(long, long, long, long, long, long, long) __asm__("syscall");

long any_syscall(long number, long a, long b, long c, long d, long e, long f) {
    static long (*next)(long, ...);
    if (!next) next = dlsym(RTLD_NEXT, "syscall");
    struct timespec until;
    if (number == SYS_futex && d && (b & FUTEX_CLOCK_REALTIME) &&
        (b & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET) { /* only then is it an instant */
        until = moved(*(const struct timespec *)d, -offset());
        d = (long)&until;
    }
    long result = next(number, a, b, c, d, e, f);
    if (number == SYS_clock_gettime && !result && is_wall((clockid_t)a))
        *(struct timespec *)b = moved(*(struct timespec *)b, offset());
    return result;
}
