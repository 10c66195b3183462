// Writes known pages at known times, and tells: ranges with their addresses, threads, and rounds with begin and end
// (CLOCK_MONOTONIC, nanoseconds). Pages of a round are those for which is_written() holds.
//
//   writes MIB ROUNDS PAUSE_MS [wait]
//
// With `wait` the first round comes when there is a line to be read.
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define THREADS 4
#define SMALL 64

static char *pattern, *filled, *discarded, *shared, *untouched;
static size_t pages;
static long rounds;
static pthread_barrier_t barrier;

static int is_written(unsigned long round, unsigned long page) {
    unsigned long x = page * 0x9E3779B97F4A7C15UL + round * 0xD1B54A32D192ED03UL;
    x ^= x >> 29;
    x *= 0xBF58476D1CE4E5B9UL;
    x ^= x >> 32;
    return (x >> 8) % 8 == 0;
}

static unsigned long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000UL + time.tv_nsec;
}

static void *memory(const char *name, size_t count, int flags) {
    void *at = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
    if (at == MAP_FAILED) exit(2);
    if (name) printf("range %s %p %zu\n", name, at, count);
    return at;
}

static void touch(volatile char *at, size_t count) {
    for (size_t page = 0; page < count; page++) at[page * PAGE] = 1;
}

static void *write_part(void *argument) {
    unsigned long thread = (unsigned long)argument;
    printf("thread %lu %ld\n", thread, syscall(SYS_gettid));
    size_t part = pages / THREADS;
    for (long round = 0; round < rounds; round++) {
        pthread_barrier_wait(&barrier);
        for (size_t page = thread * part; page < (thread + 1) * part; page++) {
            if (is_written(round, page)) *(volatile char *)(pattern + page * PAGE + page % 4000) = round;
        }
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

int main(int count, char **arguments) {
    if (count < 4) return 2;
    pages = atol(arguments[1]) * 256;
    rounds = atol(arguments[2]);
    unsigned pause_us = atol(arguments[3]) * 1000;
    setvbuf(stdout, NULL, _IOLBF, 0);
    pattern = memory("pattern", pages, MAP_PRIVATE);
    filled = memory("filled", SMALL, MAP_PRIVATE);
    discarded = memory("discarded", SMALL, MAP_PRIVATE);
    shared = memory("shared", SMALL, MAP_SHARED);
    untouched = memory("untouched", SMALL, MAP_PRIVATE);
    touch(pattern, pages);
    touch(filled, SMALL / 2);
    touch(discarded, SMALL);
    touch(untouched, SMALL / 2);
    touch(shared, SMALL / 2);
    int zeros = open("/dev/zero", O_RDONLY);
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    pthread_t threads[THREADS];
    for (unsigned long thread = 0; thread < THREADS; thread++) {
        pthread_create(&threads[thread], NULL, write_part, (void *)thread);
    }
    printf("thread main %d\n", getpid());
    // A recorder may have to attach first.
    if (count > 4) getchar();
    else usleep(pause_us);
    for (long round = 0; round < rounds; round++) {
        unsigned long begin = now();
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        // The kernel writes to every third page, in memory or not yet.
        for (size_t page = 0; page < SMALL; page += 3) {
            if (read(zeros, filled + page * PAGE + 8, 100) != 100) return 3;
        }
        for (size_t page = 0; page < SMALL; page += 2) *(volatile char *)(discarded + page * PAGE) = 2;
        madvise(discarded, SMALL * PAGE, MADV_DONTNEED);
        // Of what is given back the fifth part is written again, the others are read at most.
        for (size_t page = 0; page < SMALL; page += 5) *(volatile char *)(discarded + page * PAGE) = 3;
        for (size_t page = 1; page < SMALL; page += 5) (void)*(volatile char *)(discarded + page * PAGE);
        for (size_t page = 0; page < SMALL; page++) {
            if (page % 4 == 0) *(volatile char *)(shared + page * PAGE) = 2;
            if (page % 4 == 1) (void)*(volatile char *)(shared + page * PAGE);
            if (page % 4 == 2) (void)*(volatile char *)(untouched + page * PAGE);
        }
        char name[32];
        snprintf(name, sizeof name, "new%ld", round);
        volatile char *new = memory(name, SMALL, MAP_PRIVATE);
        for (size_t page = 0; page < SMALL; page++) {
            if (page % 2 == 0) new[page * PAGE] = 1;
            else if (page % 4 == 1) (void)new[page * PAGE];
        }
        printf("round %ld %lu %lu\n", round, begin, now());
        usleep(pause_us);
    }
    for (int thread = 0; thread < THREADS; thread++) pthread_join(threads[thread], NULL);
    return 0;
}
