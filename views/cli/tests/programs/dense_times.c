/* Allocates and frees as closely as it can, pauses without a system call, and goes on; says between which times of
 * CLOCK_MONOTONIC the first free and the first alloc behind each pause were. Then one thread frees at once what another
 * allocates. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PAUSES = 4, PAUSE_MS = 250, BURST = 20000, HANDED_OVER = 200000, RING = 256 };

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void *volatile kept;

static void burst(void) {
    for (int i = 0; i < BURST; i++) {
        kept = malloc(64 + i % 16 * 16);
        free(kept);
    }
}

static _Atomic(void *) ring[RING];

static void *freer(void *argument) {
    for (int i = 0; i < HANDED_OVER; i++) {
        void *object;
        while (!(object = atomic_exchange(&ring[i % RING], NULL))) {
        }
        free(object);
    }
    return argument;
}

int main(void) {
    static char lines[PAUSES * 128];
    int length = 0;
    for (int pause = 0; pause < PAUSES; pause++) {
        void *freed_behind = malloc(50000 + pause);
        burst();
        int64_t start = now();
        while (now() - start < PAUSE_MS * 1000000LL) {
        }
        int64_t before = now();
        free(freed_behind);
        int64_t between = now();
        kept = malloc(60000 + pause);
        int64_t after = now();
        length += sprintf(lines + length, "%d %ld %ld %ld\n", pause, before, between, after);
    }
    pthread_t thread;
    pthread_create(&thread, NULL, freer, NULL);
    for (int i = 0; i < HANDED_OVER; i++) {
        void *object = malloc(32 + i % 8 * 16), *empty = NULL;
        while (!atomic_compare_exchange_weak(&ring[i % RING], &empty, object)) {
            empty = NULL;
        }
    }
    pthread_join(thread, NULL);
    fputs(lines, stdout);
    return 0;
}
