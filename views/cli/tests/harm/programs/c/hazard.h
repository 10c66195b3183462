// What the hazard programs have in common: their own count of what they allocate and free, kept in a file mapping that
// outlives them however they end, and a main that does what its argument names.
#ifndef HAZARD_H
#define HAZARD_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// One program in one process. The reader is `counts.rs`.
struct own_count {
    long pid, made, freed;
};

// The first is the number of those that follow.
static struct own_count *all_counts, *own_count;
enum { OWN_COUNTS_MAX = 170 };

static inline void say(const char *format, ...) {
    char text[256];
    va_list rest;
    va_start(rest, format);
    int length = vsnprintf(text, sizeof text, format, rest);
    va_end(rest);
    if (write(1, text, (size_t)length) != length) _exit(99);
}

// What the program expects of its world, whoever records it.
#define EXPECT(what)                                                                                        \
    do {                                                                                                    \
        if (!(what)) {                                                                                      \
            const char *text = __FILE__ ": expected " #what "\n";                                          \
            if (write(2, text, strlen(text)) < 0) _exit(98);                                                \
            _exit(97);                                                                                      \
        }                                                                                                   \
    } while (0)

// A process begins to count: at its start, and in the child of a fork.
static inline void begin_counting(void) {
    if (!all_counts) {
        const char *path = getenv("HARM_COUNTS");
        int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
        void *memory = file < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (memory == MAP_FAILED) _exit(96);
        close(file);
        all_counts = (struct own_count *)memory;
    }
    long place = __atomic_add_fetch(&all_counts->pid, 1, __ATOMIC_RELAXED);
    if (place >= OWN_COUNTS_MAX) _exit(95);
    own_count = &all_counts[place];
    own_count->pid = (long)syscall(SYS_getpid);
}

static inline struct own_count *counting(void) {
    if (!own_count) begin_counting();
    return own_count;
}

static inline void count_made(void) { __atomic_add_fetch(&counting()->made, 1, __ATOMIC_RELAXED); }
static inline void count_freed(void) { __atomic_add_fetch(&counting()->freed, 1, __ATOMIC_RELAXED); }

static inline void *make(size_t size) {
    void *made = malloc(size);
    if (made) {
        count_made();
        memset(made, 1, size);
    }
    return made;
}

static inline void drop(void *made) {
    if (made) count_freed();
    free(made);
}

static inline void *remake(void *old, size_t size) {
    void *made = realloc(old, size);
    if (made && old) count_freed();
    if (made) count_made();
    return made;
}

static inline void keep(int count, size_t size) {
    for (int i = 0; i < count; i++) EXPECT(make(size));
}

static inline void make_and_drop(int count, size_t size) {
    for (int i = 0; i < count; i++) drop(make(size + (size_t)i % 100));
}

static inline void nap(long milliseconds) {
    struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {}
}

static inline int status_of(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

struct way {
    const char *name;
    int (*run)(void);
};

static inline int run_way(int count, char **arguments, const struct way *ways, size_t number) {
    for (size_t i = 0; i < number; i++)
        if (count > 1 && strcmp(arguments[1], ways[i].name) == 0) {
            counting();
            return ways[i].run();
        }
    return 94;
}

#define MAIN(...)                                                                                           \
    int main(int count, char **arguments) {                                                                \
        const struct way ways[] = {__VA_ARGS__};                                                           \
        return run_way(count, arguments, ways, sizeof ways / sizeof *ways);                                 \
    }

#endif
